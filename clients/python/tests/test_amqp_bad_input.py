"""What a peer gets that does not keep to the protocol: RabbitMQ's answer, and nobody else is harmed.

Codes and texts are those of RabbitMQ 4.3.6.
"""

import contextlib
import socket
import struct
import time

import pytest

from amqpkit import channel, count
from kit import PATIENCE_S, eventually, need, unique

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
FRAME_MAX = 131_072
NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"


def frame(kind, number, payload, end=END):
    return struct.pack(">BHI", kind, number, len(payload)) + payload + end


def method(number, class_id, method_id, arguments=b""):
    return frame(METHOD, number, struct.pack(">HH", class_id, method_id) + arguments)


def header(body_len, class_id=60):
    """A content header on channel 1, without properties."""
    return frame(HEADER, 1, struct.pack(">HHQH", class_id, 0, body_len, 0))


def short(text):
    return bytes([len(text)]) + text.encode()


def table(fields=b""):
    return struct.pack(">I", len(fields)) + fields


def publish(queue):
    return method(1, 60, 40, struct.pack(">H", 0) + short("") + short(queue) + b"\0")


class Peer:
    """A client, octet by octet."""

    def __init__(self):
        host, port = need("WIREMILL_AMQP").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def take(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def next_method(self):
        """Channel, class, method and arguments of the next method."""
        while True:
            kind, number, length = struct.unpack(">BHI", self.take(7))
            payload = self.take(length + 1)
            if kind == METHOD:
                return number, *struct.unpack_from(">HH", payload), payload[4:-1]

    def open(self, frame_max=FRAME_MAX, heartbeat=0, channel_max=1):
        """A connection with channel 1."""
        self.send(b"AMQP\x00\x00\x09\x01")
        assert self.next_method()[1:3] == (10, 10)
        self.send(method(0, 10, 11, table() + short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short("en_US")))
        assert self.next_method()[1:3] == (10, 30)
        self.send(method(0, 10, 31, struct.pack(">HIH", channel_max, frame_max, heartbeat)), method(0, 10, 40, short("/") + short("") + b"\0"))
        assert self.next_method()[1:3] == (10, 41)
        self.send(method(1, 20, 10, short("")))
        assert self.next_method()[1:3] == (20, 11)
        return self

    def closed(self):
        """Whether the connection or a channel is closed, with which code and text."""
        number, class_id, method_id, arguments = self.next_method()
        assert (class_id, method_id) in ((10, 50), (20, 40)), (class_id, method_id)
        code, length = struct.unpack_from(">HB", arguments)
        return "connection" if number == 0 else "channel", code, arguments[3:3 + length].decode()

    def ends(self):
        """Whether the server closes the socket, whatever it says before."""
        self.socket.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(65_536):
                pass
        return True


@pytest.fixture
def neighbour():
    """Another connection, which is there and works after the test as before."""
    with channel() as ch:
        queue = ch.queue_declare("", exclusive=True).method.queue
        yield
        ch.basic_publish("", queue, b"x")
        eventually("the neighbour's message arrives", lambda: count(ch, queue) == 1)


def field(name, kind, value):
    return short(name) + kind + value


def nested(depth):
    fields = b""
    for _ in range(depth):
        fields = field("t", b"F", table(fields))
    return fields


@pytest.mark.parametrize("header", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xc8\x01\x00\x00", b"AMQP\x01\x01\x08\x00", b"AMQP\x00\x00\x09\x02"])
def test_another_protocol_is_answered_with_a_header(header, neighbour):
    peer = Peer()
    peer.send(header)
    assert peer.take(8)[:4] == b"AMQP"
    assert peer.ends()


@pytest.mark.parametrize(("what", "data", "answer"), [
    (
        "a frame that ends with another octet", frame(METHOD, 1, b"\0\x14\0\x0a\0", end=b"\xcd"),
        ("connection", 501, "FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,205}"),
    ),
    (
        "a frame longer than was agreed", struct.pack(">BHI", BODY, 1, 0xFFFF_FFFF) + bytes(64),
        ("connection", 501, None),
    ),
    ("a frame of an unknown type", frame(9, 1, b""), ("connection", 501, None)),
    ("an unknown method", method(1, 60, 999), ("connection", 503, None)),
    ("an unknown class", method(1, 999, 1), ("connection", 503, None)),
    ("a method of a channel that is not open", method(9, 60, 10, bytes(7)), ("connection", 504, "CHANNEL_ERROR - expected 'channel.open'")),
    ("a channel opened twice", method(1, 20, 10, short("")), ("connection", 504, "CHANNEL_ERROR - second 'channel.open' seen")),
    (
        "more channels than were agreed", method(2, 20, 10, short("")),
        ("connection", 530, "NOT_ALLOWED - number of channels opened (1) has reached the negotiated channel_max (1)"),
    ),
    ("a body without a method", frame(BODY, 1, b"x"), ("connection", 505, NO_METHOD)),
    ("a header without a method", header(1), ("connection", 505, NO_METHOD)),
    ("a method amid a message", publish("q") + method(1, 20, 20, b"\1"), ("connection", 505, NO_HEADER)),
    ("a body without a header", publish("q") + frame(BODY, 1, b"x"), ("connection", 505, NO_HEADER)),
    (
        "a second header", publish("q") + header(1) + header(1),
        ("connection", 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
    ),
    (
        "a header of another class", publish("q") + header(1, class_id=50),
        ("connection", 505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"),
    ),
    ("a method that is cut off", method(1, 50, 10, b"\0\0\xffx"), ("connection", 501, "FRAME_ERROR - cannot decode <<0,0,255,120>>")),
    ("a table that says it is longer than its frame", method(1, 50, 10, b"\0\0" + short("q") + b"\0" + b"\xff\xff\xff\xff"), ("connection", 501, None)),
    ("a table nested very deep", method(1, 50, 10, b"\0\0" + short("q") + b"\0" + table(nested(5_000))), ("connection", 501, None)),
    ("a table with a field of an unknown type", method(1, 50, 10, b"\0\0" + short("q") + b"\0" + table(field("a", b"?", b""))), ("connection", 501, None)),
    (
        "a message longer than the server takes", publish("q") + header(1 << 40),
        ("channel", 406, f"PRECONDITION_FAILED - message size {1 << 40} is larger than configured max size {128 << 20}"),
    ),
    (
        "more of a body than the header said", publish("q") + header(1) + frame(BODY, 1, b"xyz"),
        ("connection", 501, "FRAME_ERROR - content body frame exceeds remaining content size"),
    ),
    ("a heartbeat on a channel", frame(8, 1, b""), ("connection", 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>")),
    (
        "a method that only servers send", method(1, 60, 71, bytes(15)),
        ("connection", 503, "COMMAND_INVALID - unimplemented method"),
    ),
    (
        "a method of channels on channel 0", method(0, 20, 10, short("")),
        ("connection", 504, "CHANNEL_ERROR - unexpected method in connection state running"),
    ),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_keep_to_the_protocol_is_answered(what, data, answer, neighbour):
    peer = Peer().open()
    peer.send(data)
    where, code, text = peer.closed()
    assert (where, code) == answer[:2], text
    if answer[2]:
        assert text == answer[2]
    if where == "connection":
        peer.send(method(0, 10, 51))
        assert peer.ends()


def test_a_frame_of_the_length_agreed_is_taken(neighbour):
    peer = Peer().open(frame_max=4_096)
    queue = unique("exact")
    peer.send(method(1, 50, 10, b"\0\0" + short(queue) + b"\x0c" + table()))
    assert peer.next_method()[1:3] == (50, 11)
    body = bytes(4_096 - 8)
    peer.send(publish(queue), header(len(body)), frame(BODY, 1, body))
    peer.send(method(1, 60, 70, b"\0\0" + short(queue) + b"\1"))
    assert peer.next_method()[1:3] == (60, 71)


def test_a_closed_channel_ignores_what_was_under_way(neighbour):
    peer = Peer().open()
    peer.send(method(1, 50, 10, b"\0\0" + short(unique("nobody")) + b"\1" + table()), publish("q"), header(1), frame(BODY, 1, b"x"))
    assert peer.closed()[:2] == ("channel", 404)
    peer.send(frame(BODY, 1, b"x"), method(1, 60, 10, bytes(7)), method(1, 20, 41), method(1, 20, 10, short("")))
    assert peer.next_method()[1:3] == (20, 11)


def test_a_client_that_misses_heartbeats_is_dropped_and_what_it_had_comes_again():
    with channel() as ch:
        queue = unique("silent")
        ch.queue_declare(queue)
        ch.basic_publish("", queue, b"x")
        peer = Peer().open(heartbeat=1)
        peer.send(method(1, 60, 70, b"\0\0" + short(queue) + b"\0"))
        assert peer.next_method()[1:3] == (60, 71)
        assert count(ch, queue) == 0
        began = time.monotonic()
        assert peer.ends()
        assert 1 <= time.monotonic() - began < 10
        eventually("its message is back", lambda: count(ch, queue) == 1)
        ch.queue_delete(queue)


def test_nothing_is_allocated_on_a_peers_word(neighbour):
    """A hundred peers announce messages of 128 MiB and frames of the longest length, and send nothing of them."""
    peers = []
    for _ in range(100):
        peer = Peer().open()
        peer.send(publish("q"), header(128 << 20), struct.pack(">BHI", BODY, 1, FRAME_MAX - 8))
        peers.append(peer)
    with channel() as ch:
        queue = ch.queue_declare("", exclusive=True).method.queue
        ch.basic_publish("", queue, bytes(1 << 20))
        eventually("others are served", lambda: count(ch, queue) == 1)
    for peer in peers:
        peer.socket.close()

"""What programs written with pika see."""

import functools
import socket
import threading
import time

import pika
import pika.exceptions
import pytest

from amqpkit import channel, count, parameters, persistent, taken
from kit import PATIENCE_S, eventually, unique

shows = functools.partial(pytest.mark.shows, "pika", protocol="AMQP")


@shows("messages of a queue come in order, with their properties and headers")
def test_order_and_properties():
    with channel() as ch:
        queue = unique("orders")
        ch.queue_declare(queue, durable=True)
        headers = {"n": 7, "text": "x", "list": [1, "two"], "table": {"inner": True}, "none": None}
        for number in range(1_000):
            sent = persistent(headers=headers, content_type="text/plain", message_id=str(number), priority=3)
            ch.basic_publish("", queue, str(number).encode(), sent)
        messages = taken(ch, queue, 1_000)
        assert [int(body) for _, _, body in messages] == list(range(1_000))
        for number, (method, properties, _) in enumerate(messages):
            assert not method.redelivered and method.routing_key == queue
            assert properties.headers == headers and properties.message_id == str(number)
        ch.queue_delete(queue)


@shows("a message of four megabytes arrives whole, also in frames of 4096 bytes")
def test_long_body():
    body = bytes(range(256)) * (4 << 12)
    for options in {}, {"frame_max": 4_096}:
        with channel(**options) as ch:
            queue = ch.queue_declare("", exclusive=True).method.queue
            ch.basic_publish("", queue, body)
            assert taken(ch, queue, 1)[0][2] == body


@shows("a message that goes nowhere comes back to a publisher that wants confirms")
def test_unroutable():
    with channel() as ch:
        ch.confirm_delivery()
        with pytest.raises(pika.exceptions.UnroutableError) as unroutable:
            ch.basic_publish("", unique("nobody"), b"x", mandatory=True)
        (returned,) = unroutable.value.messages
        assert (returned.method.reply_code, returned.method.reply_text, returned.body) == (312, "NO_ROUTE", b"x")
        queue = ch.queue_declare("", exclusive=True).method.queue
        ch.basic_publish("", queue, b"x", mandatory=True)


@shows("a publish that a full queue rejects is told to its publisher")
def test_full():
    with channel() as ch:
        ch.confirm_delivery()
        queue = unique("full")
        ch.queue_declare(queue, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        for body in b"a", b"b":
            ch.basic_publish("", queue, body, persistent())
        with pytest.raises(pika.exceptions.NackError):
            ch.basic_publish("", queue, b"c", persistent())
        assert [body for _, _, body in taken(ch, queue, 2)] == [b"a", b"b"]
        ch.queue_delete(queue)


@shows("what a consumer does not settle before its connection breaks comes again, and says so")
def test_broken_connection():
    queue = unique("broken")
    with channel() as ch:
        ch.queue_declare(queue, durable=True)
        ch.basic_publish("", queue, b"a", persistent())
        method, _, _ = next(ch.consume(queue))
        assert not method.redelivered
        # Not closed as one should: the socket is gone.
        ch.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        # It may take more than one look until pika sees it.
        with pytest.raises(pika.exceptions.AMQPError):
            while True:
                ch.connection.process_data_events(1)
    with channel() as ch:
        ((method, _, body),) = taken(ch, queue, 1)
        assert method.redelivered and body == b"a"
        ch.queue_delete(queue)


@shows("a worker that is ten times slower gets at most a fifth of the messages with prefetch 1")
def test_fair_prefetch():
    queue, done = unique("work"), {"fast": [], "slow": []}
    with channel() as ch:
        ch.queue_declare(queue, durable=True)
        for number in range(200):
            ch.basic_publish("", queue, str(number).encode(), persistent())

    began = time.monotonic()

    def ten_times_slower():
        # Than the fast one has been so far, with whatever a message costs on this machine.
        return max(0.05, 10 * (time.monotonic() - began) / (len(done["fast"]) or 1))

    def work(name, pause_s):
        with channel() as mine:
            mine.basic_qos(prefetch_count=1)
            for method, _, body in mine.consume(queue, inactivity_timeout=0.2):
                if method:
                    mine.connection.sleep(pause_s())
                    done[name].append(int(body))
                    mine.basic_ack(method.delivery_tag)
                if len(done["fast"]) + len(done["slow"]) >= 200:
                    break

    workers = [threading.Thread(target=work, args=one) for one in (("fast", lambda: 0.005), ("slow", ten_times_slower))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert sorted(done["fast"] + done["slow"]) == list(range(200))
    assert len(done["slow"]) <= 40, len(done["slow"])
    with channel() as ch:
        ch.queue_delete(queue)


@shows("errors close the channel with the original's code and text, and the connection goes on")
def test_errors():
    connection = pika.BlockingConnection(parameters())
    queue = unique("errors")
    connection.channel().queue_declare(queue, durable=True)
    for call, code, text in (
        (lambda ch: ch.queue_declare("no such queue", passive=True), 404, "NOT_FOUND - no queue 'no such queue' in vhost '/'"),
        (
            lambda ch: ch.queue_declare(queue, durable=False), 406,
            f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'false' but current is 'true'",
        ),
        (lambda ch: ch.exchange_declare("x", "zzz"), 406, "PRECONDITION_FAILED - unknown exchange type 'zzz'"),
        (lambda ch: ch.queue_bind(queue, "no such exchange"), 404, "NOT_FOUND - no exchange 'no such exchange' in vhost '/'"),
    ):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            call(connection.channel())
        assert (closed.value.reply_code, closed.value.reply_text) == (code, text)
    connection.channel().queue_delete(queue)
    connection.close()


@shows("a consumer is told when its queue is deleted")
def test_cancel_notification():
    with channel() as ch, channel() as other:
        queue = unique("deleted")
        ch.queue_declare(queue, durable=True)
        cancelled = []
        ch.add_on_cancel_callback(cancelled.append)
        ch.basic_consume(queue, lambda *_: None)
        other.queue_delete(queue)
        ch.connection.process_data_events(0)
        eventually("the consumer is told", lambda: ch.connection.process_data_events(0.05) or cancelled)


@shows("topic, direct, fanout and headers exchanges choose, and bindings between exchanges lead on")
def test_exchanges():
    with channel() as ch:
        ch.confirm_delivery()
        names = {kind: unique(kind) for kind in ("topic", "direct", "fanout", "headers")}
        for kind, name in names.items():
            ch.exchange_declare(name, kind, durable=True)
        ch.exchange_bind(names["fanout"], names["topic"], "order.#")
        queue = ch.queue_declare("", exclusive=True).method.queue
        ch.queue_bind(queue, names["fanout"])
        ch.queue_bind(queue, names["direct"], "exact")
        ch.queue_bind(queue, names["headers"], arguments={"x-match": "any", "kind": "order", "size": 3})
        for exchange, key, headers, arrives in (
            ("topic", "order.created.us", None, True),
            ("topic", "payment.created", None, False),
            ("direct", "exact", None, True),
            ("direct", "other", None, False),
            ("headers", "", {"size": 3}, True),
            ("headers", "", {"size": 4}, False),
        ):
            ch.basic_publish(names[exchange], key, b"x", pika.BasicProperties(headers=headers))
            method, _, _ = ch.basic_get(queue, auto_ack=True)
            assert bool(method) == arrives, (exchange, key, headers)
        for name in names.values():
            ch.exchange_delete(name)


@shows("a queue filled and drained by cancel and close loses and repeats nothing")
def test_drain():
    queue = unique("drained")
    with channel() as ch:
        ch.queue_declare(queue, durable=True)
        for number in range(2_000):
            ch.basic_publish("", queue, str(number).encode(), persistent())
    seen = []
    while len(seen) < 2_000:
        with channel() as ch:
            ch.basic_qos(prefetch_count=50)
            for method, _, body in ch.consume(queue, inactivity_timeout=PATIENCE_S):
                seen.append(int(body))
                ch.basic_ack(method.delivery_tag)
                if len(seen) % 333 == 0 or len(seen) == 2_000:
                    break
            ch.cancel()
    assert seen == list(range(2_000))
    with channel() as ch:
        assert count(ch, queue) == 0
        ch.queue_delete(queue)

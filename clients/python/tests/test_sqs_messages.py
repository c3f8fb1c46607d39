"""What boto3 sees of messages: sent, received, hidden, delayed, deleted. Run with a boto3 of today, which
speaks JSON, and with an old one, which speaks Query."""

import hashlib
import struct
import threading
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kit import eventually
from sqskit import REGION, attributes, bodies, client, counts, delete, new_queue, receive, sqs, take

ATTRIBUTES = {
    "trace": {"DataType": "String", "StringValue": "grün & <blau>"},
    "order.total": {"DataType": "Number", "StringValue": "12.50"},
    "order.id": {"DataType": "Number.int", "StringValue": "42"},
    "thumbnail": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
}


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


def attributes_md5(values: dict) -> str:
    """The digest that AWS documents for message attributes."""

    def counted(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    digest = hashlib.md5()
    for name in sorted(values):
        value = values[name]
        binary = "BinaryValue" in value
        data = value["BinaryValue"] if binary else value["StringValue"].encode()
        digest.update(counted(name.encode()) + counted(value["DataType"].encode()) + (b"\2" if binary else b"\1") + counted(data))
    return digest.hexdigest()


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@shows("a message comes back as it was sent: body, typed and binary attributes, digests, system attributes")
def test_a_message_comes_back_as_it_was_sent():
    queue, body = new_queue(), 'päivää, 世界 𝄞 <&>"\'\r\n\tend'
    before_ms = time.time() * 1_000
    sent = sqs().send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=ATTRIBUTES)
    assert sent["MD5OfMessageBody"] == md5(body)
    assert sent["MD5OfMessageAttributes"] == attributes_md5(ATTRIBUTES)
    (message,) = take(queue, 1)
    assert (message["MessageId"], message["Body"], message["MD5OfBody"]) == (sent["MessageId"], body, md5(body))
    assert message["MessageAttributes"] == ATTRIBUTES
    assert message["MD5OfMessageAttributes"] == attributes_md5(ATTRIBUTES)
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1"
    assert before_ms - 2_000 < int(system["SentTimestamp"]) <= int(system["ApproximateFirstReceiveTimestamp"])
    assert system["SenderId"]


@shows("a receive gives the attributes that were asked for, and the digest of those alone")
def test_a_receive_gives_what_was_asked_for():
    queue = new_queue(VisibilityTimeout="0")
    sqs().send_message(QueueUrl=queue, MessageBody="x", MessageAttributes=ATTRIBUTES)

    def ask(**names):
        return sqs().receive_message(QueueUrl=queue, **names)["Messages"][0]

    plain = ask()
    assert not {"Attributes", "MessageAttributes", "MD5OfMessageAttributes"} & plain.keys()
    for asked, expected in [
        (["trace"], {"trace"}),
        (["order.*"], {"order.total", "order.id"}),
        (["thumbnail", "order.id"], {"thumbnail", "order.id"}),
        (["All"], ATTRIBUTES.keys()),
        ([".*"], ATTRIBUTES.keys()),
    ]:
        message = ask(MessageAttributeNames=asked)
        subset = {name: ATTRIBUTES[name] for name in expected}
        assert message["MessageAttributes"] == subset, asked
        assert message["MD5OfMessageAttributes"] == attributes_md5(subset), asked
    nothing = ask(MessageAttributeNames=["absent"])
    assert not {"MessageAttributes", "MD5OfMessageAttributes"} & nothing.keys()
    some = ask(AttributeNames=["SentTimestamp", "ApproximateReceiveCount"])
    assert some["Attributes"].keys() == {"SentTimestamp", "ApproximateReceiveCount"}


@shows("a trace header travels as a system attribute with a digest of its own")
def test_a_trace_header_travels_as_a_system_attribute():
    queue = new_queue()
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sent = sqs().send_message(QueueUrl=queue, MessageBody="x", MessageSystemAttributes=header)
    assert sent["MD5OfMessageSystemAttributes"] == attributes_md5(header)
    assert "MD5OfMessageAttributes" not in sent
    (message,) = take(queue, 1)
    assert message["Attributes"]["AWSTraceHeader"] == header["AWSTraceHeader"]["StringValue"]


@shows("a body of the full mebibyte is stored, and one byte more is refused")
def test_a_body_of_the_full_size_is_stored():
    queue, body = new_queue(), "x" * 1_048_576
    sqs().send_message(QueueUrl=queue, MessageBody=body)
    (message,) = take(queue, 1)
    assert message["Body"] == body
    with pytest.raises(sqs().exceptions.ClientError) as refused:
        sqs().send_message(QueueUrl=queue, MessageBody=body + "y")
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValue"


@shows("a received message is hidden for its visibility timeout, then comes again with a higher receive count")
def test_a_received_message_is_hidden_then_comes_again():
    queue = new_queue(VisibilityTimeout="5")
    sqs().send_message(QueueUrl=queue, MessageBody="x")
    (first,) = take(queue, 1)
    received = time.monotonic()
    assert receive(queue) == [] and counts(queue) == (0, 1, 0)
    (second,) = take(queue, 1)
    assert time.monotonic() - received > 1
    assert second["MessageId"] == first["MessageId"] and second["ReceiptHandle"] != first["ReceiptHandle"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["Attributes"]["ApproximateFirstReceiveTimestamp"] == first["Attributes"]["ApproximateFirstReceiveTimestamp"]
    delete(queue, second)
    delete(queue, second)
    assert counts(queue) == (0, 0, 0)


@shows("an old receipt handle still deletes from a standard queue")
def test_an_old_receipt_handle_still_deletes():
    queue = new_queue(VisibilityTimeout="1")
    sqs().send_message(QueueUrl=queue, MessageBody="x")
    (first,) = take(queue, 1)
    take(queue, 1)
    delete(queue, first)
    eventually("nothing is left", lambda: counts(queue) == (0, 0, 0))


@shows("a lease is extended, shortened and given back, alone and in batches")
def test_a_lease_is_extended_shortened_and_given_back():
    queue = new_queue(VisibilityTimeout="120")
    for n in range(3):
        sqs().send_message(QueueUrl=queue, MessageBody=str(n))
    (extended,) = take(queue, 1, VisibilityTimeout=5)
    taken = time.monotonic()
    sqs().change_message_visibility(QueueUrl=queue, ReceiptHandle=extended["ReceiptHandle"], VisibilityTimeout=120)
    given_back, shortened = take(queue, 2)
    answer = sqs().change_message_visibility_batch(QueueUrl=queue, Entries=[
        {"Id": "one", "ReceiptHandle": given_back["ReceiptHandle"], "VisibilityTimeout": 0},
        {"Id": "two", "ReceiptHandle": shortened["ReceiptHandle"], "VisibilityTimeout": 4},
        {"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 4},
    ])
    assert {entry["Id"] for entry in answer["Successful"]} == {"one", "two"}
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)
    assert bodies(receive(queue)) == [given_back["Body"]]
    assert bodies(take(queue, 1)) == [shortened["Body"]]
    assert time.monotonic() - taken < 60
    # The first lease of the third would be over by now.
    time.sleep(max(0, taken + 6 - time.monotonic()))
    assert receive(queue) == []
    assert attributes(queue, "ApproximateNumberOfMessagesNotVisible")["ApproximateNumberOfMessagesNotVisible"] == "3"


@shows("a long poll is woken by a message, and ends empty when none comes")
def test_a_long_poll_is_woken_by_a_message():
    queue, found = new_queue(), []
    began = time.monotonic()
    assert receive(queue, wait_s=1) == []
    assert time.monotonic() - began > 0.9

    def wait():
        found.extend((time.monotonic(), body) for body in bodies(receive(queue, wait_s=20)))

    waiter = threading.Thread(target=wait)
    began = time.monotonic()
    waiter.start()
    time.sleep(0.5)
    sqs().send_message(QueueUrl=queue, MessageBody="wake up")
    waiter.join()
    ((at, body),) = found
    # Far below the 20 s that it would have waited.
    assert body == "wake up" and at - began < 15


@shows("a queue's own wait time makes every receive a long poll")
def test_a_queues_own_wait_time_applies():
    queue = new_queue(ReceiveMessageWaitTimeSeconds="1")
    began = time.monotonic()
    assert "Messages" not in sqs().receive_message(QueueUrl=queue)
    assert time.monotonic() - began > 0.9
    sqs().set_queue_attributes(QueueUrl=queue, Attributes={"ReceiveMessageWaitTimeSeconds": "20"})
    began = time.monotonic()
    assert "Messages" not in sqs().receive_message(QueueUrl=queue, WaitTimeSeconds=0)
    assert time.monotonic() - began < 15


@shows("a long poll on a queue that is deleted ends at once")
def test_a_long_poll_ends_with_its_queue():
    queue, ended = new_queue(), []

    def wait():
        try:
            receive(queue, wait_s=20)
        except sqs().exceptions.QueueDoesNotExist:
            pass
        ended.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    began = time.monotonic()
    waiter.start()
    time.sleep(0.5)
    sqs().delete_queue(QueueUrl=queue)
    waiter.join()
    assert ended[0] - began < 15


@shows("messages are delayed, by the queue and by themselves")
def test_messages_are_delayed():
    queue = new_queue(DelaySeconds="5")
    sqs().send_message(QueueUrl=queue, MessageBody="by the queue")
    sqs().send_message(QueueUrl=queue, MessageBody="at once", DelaySeconds=0)
    sqs().send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=600)
    assert bodies(receive(queue, wait_s=1, VisibilityTimeout=60)) == ["at once"]
    began = time.monotonic()
    assert bodies(take(queue, 1)) == ["by the queue"]
    assert time.monotonic() - began < 30
    assert counts(queue)[2] == 1


@shows("in a batch of ten each entry succeeds or fails by itself")
def test_each_entry_of_a_batch_succeeds_or_fails_by_itself():
    queue = new_queue(MaximumMessageSize="1024")
    entries = [{"Id": f"e{n}", "MessageBody": f"body {n}"} for n in range(7)]
    entries += [
        {"Id": "big", "MessageBody": "x" * 1_025},
        {"Id": "late", "MessageBody": "x", "DelaySeconds": 901},
        {"Id": "typed", "MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "1"}}},
    ]
    answer = sqs().send_message_batch(QueueUrl=queue, Entries=entries)
    sent = {entry["Id"]: entry for entry in answer["Successful"]}
    assert sent.keys() == {f"e{n}" for n in range(7)} | {"typed"}
    assert sent["e3"]["MD5OfMessageBody"] == md5("body 3")
    assert sent["typed"]["MD5OfMessageAttributes"] == attributes_md5(entries[-1]["MessageAttributes"])
    assert {(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]} == {
        ("big", "InvalidParameterValue", True), ("late", "InvalidParameterValue", True)
    }
    messages = take(queue, 8)
    assert {message["MessageId"] for message in messages} == {entry["MessageId"] for entry in sent.values()}
    answer = sqs().delete_message_batch(QueueUrl=queue, Entries=[
        {"Id": f"d{n}", "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)
    ] + [{"Id": "bad", "ReceiptHandle": "garbage"}])
    assert len(answer["Successful"]) == 8
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"]) == ("bad", "ReceiptHandleIsInvalid")
    assert failed["Message"] == 'The input receipt handle "garbage" is not a valid receipt handle.'
    assert counts(queue) == (0, 0, 0)


@shows("purge takes what is visible, in flight and delayed")
def test_purge_takes_everything():
    queue = new_queue()
    for n in range(5):
        sqs().send_message(QueueUrl=queue, MessageBody=str(n), DelaySeconds=600 if n == 4 else 0)
    assert len(take(queue, 2)) == 2
    assert counts(queue) == (2, 2, 1)
    sqs().purge_queue(QueueUrl=queue)
    eventually("nothing is left", lambda: counts(queue) == (0, 0, 0))
    sqs().send_message(QueueUrl=queue, MessageBody="after")
    assert bodies(take(queue, 1)) == ["after"]


@shows("ten consumers at once share the messages: each is given to one")
def test_consumers_share_the_messages():
    queue, shared, lock = new_queue(VisibilityTimeout="120"), [], threading.Lock()
    for start in range(0, 200, 10):
        sqs().send_message_batch(QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)])

    def consume():
        own = client()
        while batch := own.receive_message(QueueUrl=queue, MaxNumberOfMessages=7, WaitTimeSeconds=1).get("Messages"):
            with lock:
                shared.extend(bodies(batch))
            own.delete_message_batch(QueueUrl=queue, Entries=[
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(batch)
            ])

    consumers = [threading.Thread(target=consume) for _ in range(10)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert sorted(shared, key=int) == [str(n) for n in range(200)]
    assert counts(queue) == (0, 0, 0)


@shows("a presigned GET of the queue's URL sends a message and receives it")
def test_a_presigned_url_sends_and_receives():
    queue = new_queue()

    def get(**parameters):
        query = urllib.parse.urlencode({"Version": "2012-11-05", **parameters})
        request = AWSRequest(method="GET", url=f"{queue}?{query}")
        SigV4QueryAuth(Credentials("test", "test"), "sqs", REGION, expires=60).add_auth(request)
        with urllib.request.urlopen(request.url, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/xml")
            return xml.fromstring(answer.read())

    space = {"a": "http://queue.amazonaws.com/doc/2012-11-05/"}
    sent = get(Action="SendMessage", MessageBody="grüße & so")
    assert sent.findtext("a:SendMessageResult/a:MD5OfMessageBody", namespaces=space) == md5("grüße & so")
    received = get(Action="ReceiveMessage", **{"AttributeName.1": "All"})
    assert received.findtext("a:ReceiveMessageResult/a:Message/a:Body", namespaces=space) == "grüße & so"
    assert received.findtext("a:ResponseMetadata/a:RequestId", namespaces=space)

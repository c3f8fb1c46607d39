"""What one protocol publishes and another receives, along routes that are part of the publish."""

import asyncio
import functools
import json
import re
import subprocess
import time

import nats
import nats.js.errors
import pika.exceptions
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from kit import PATIENCE_S, eventually, kafka_address, need, unique
from sqskit import counts, delete, receive, sqs, take
from test_pika import channel, persistent, taken

shows_nats = functools.partial(pytest.mark.shows, "nats-py", protocol="NATS")
shows_amqp = functools.partial(pytest.mark.shows, "pika", protocol="AMQP")


def wiremill(*arguments):
    command = [need("WIREMILL_BIN"), *arguments, "--admin", need("WIREMILL_ADMIN")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def route(*arguments):
    wiremill("route", "add", *arguments)


def explain(address):
    targets = json.loads(wiremill("route", "explain", address, "--json"))["targets"]
    return [(target["who"], target["why"]) for target in targets]


def new_topic(prefix="topic", partitions=1):
    name = unique(prefix)
    admin = AdminClient({"bootstrap.servers": kafka_address()})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(PATIENCE_S)
    return name


def produce(topic, *records):
    """Records are (key, value) or (key, value, headers)."""
    errors = []
    producer = Producer({"bootstrap.servers": kafka_address(), "linger.ms": 0})
    for key, value, *headers in records:
        producer.produce(
            topic, value, key, headers=headers[0] if headers else None, on_delivery=lambda e, _: e and errors.append(e)
        )
    assert producer.flush(PATIENCE_S) == 0
    if errors:
        raise KafkaException(errors[0])


def read(topic, count, partitions=1):
    """The first `count` records of a topic."""
    consumer = Consumer({"bootstrap.servers": kafka_address(), "group.id": unique("reader"), "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    try:
        found, deadline = [], time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None:
                assert not message.error(), message.error()
                found.append(message)
        assert len(found) == count
        return found
    finally:
        consumer.close()


def pairs(messages):
    return [(message.key(), message.value()) for message in messages]


def with_nats(test):
    """Runs a coroutine with a client."""

    def run():
        async def main():
            nc = await nats.connect(f"nats://{need('WIREMILL_NATS')}")
            try:
                await test(nc)
            finally:
                await nc.close()

        asyncio.run(main())

    run.__name__, run.__doc__, run.pytestmark = test.__name__, test.__doc__, getattr(test, "pytestmark", [])
    return run


async def apart(call, *arguments):
    """A call that blocks, while the client goes on."""
    return await asyncio.to_thread(call, *arguments)


# Subjects as sources


@with_nats
@shows_nats("core publishes go into a Kafka topic by a route, with the key from a token of the subject")
async def test_core_publishes_into_a_topic(nc):
    topic, root = new_topic(), unique("orders")
    route(f"nats:{root}.>", f"kafka:{topic}", "--key", "{token.2}")
    await nc.publish(f"{root}.eu.new", b"1", headers={"trace": "t-1"})
    await nc.publish(f"{root}.us.new", b"2")
    await nc.publish(f"{root}x.us.new", b"elsewhere")
    await nc.flush()
    messages = await apart(read, topic, 2)
    assert pairs(messages) == [(b"eu", b"1"), (b"us", b"2")]
    assert ("trace", b"t-1") in messages[0].headers()


@with_nats
@shows_nats("a JetStream publish is stored in its stream and by a route in a Kafka topic before its acknowledgement")
async def test_a_stream_s_publish_into_a_topic(nc):
    topic, name = new_topic(), unique("stream")
    js = nc.jetstream(timeout=PATIENCE_S)
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    route(f"nats:{name}.>", f"kafka:{topic}")
    for number in range(5):
        ack = await js.publish(f"{name}.{number}", str(number).encode())
        assert (ack.stream, ack.seq) == (name, number + 1)
    messages = await apart(read, topic, 5)
    assert pairs(messages) == [(f"{name}.{n}".encode(), str(n).encode()) for n in range(5)]
    # What the stream takes for a repeated publish is not copied again.
    for _ in range(2):
        await js.publish(f"{name}.once", b"once", headers={"Nats-Msg-Id": "m"})
    assert (await apart(read, topic, 6))[-1].value() == b"once"
    assert (await js.stream_info(name)).state.messages == 6


@with_nats
@shows_nats("a publish that no stream takes but a route stores is acknowledged as a stream's is")
async def test_a_routed_publish_is_acknowledged(nc):
    topic, subject = new_topic(), unique("lone")
    route(f"nats:{subject}", f"kafka:{topic}")
    js = nc.jetstream(timeout=PATIENCE_S)
    acks = [await js.publish(subject, str(number).encode()) for number in range(3)]
    assert [(ack.stream, ack.seq) for ack in acks] == [(topic, 1), (topic, 2), (topic, 3)]


@with_nats
@shows_nats("a core publish that its target refuses is told: an error line, or the answer to whoever asked")
async def test_a_refusal_is_told(nc):
    topic, subject = new_topic(), unique("large")
    route(f"nats:{subject}", f"kafka:{topic}")
    errors = []

    async def note(error):
        errors.append(str(error))

    other = await nats.connect(f"nats://{need('WIREMILL_NATS')}", error_cb=note)
    try:
        entry = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
        admin = AdminClient({"bootstrap.servers": kafka_address()})
        changed = admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])])
        for future in changed.values():
            future.result(PATIENCE_S)
        await other.publish(subject, b"x" * 1_000)
        await other.flush()
        for _ in range(100):
            if errors:
                break
            await asyncio.sleep(0.05)
        assert errors and "too large" in errors[0], errors
        answer = await other.request(subject, b"x" * 1_000, timeout=PATIENCE_S)
        assert "too large" in json.loads(answer.data)["error"]["description"]
        await other.publish(subject, b"fits")
        await other.flush()
    finally:
        await other.close()
    assert [message.value() for message in await apart(read, topic, 1)] == [b"fits"]


@with_nats
@shows_nats("a subject with wildcards feeds an SQS queue; each message reaches it once")
async def test_a_subject_feeds_a_queue(nc):
    root, queue = unique("jobs"), unique("jobs")
    url = sqs().create_queue(QueueName=queue)["QueueUrl"]
    route(f"nats:{root}.*.new", f"queue:{queue}")
    route(f"nats:{root}.>", f"queue:{queue}")
    for number in range(10):
        await nc.publish(f"{root}.{number}.new", f"job {number}".encode(), headers={"n": str(number)})
    await nc.publish(f"{root}.0.old", b"by the other route")
    await nc.flush()
    messages = await apart(functools.partial(take, url, 11, VisibilityTimeout=600))
    bodies = sorted(message["Body"] for message in messages)
    assert bodies == sorted([f"job {n}" for n in range(10)] + ["by the other route"])
    first = next(message for message in messages if message["Body"] == "job 3")
    assert first["MessageAttributes"]["n"]["StringValue"] == "3"
    for message in messages:
        delete(url, message)
    assert receive(url) == [] and counts(url) == (0, 0, 0)


# Subjects as targets


@with_nats
@shows_nats("core subscribers are served from a Kafka topic by a route; the subject has the record's key")
async def test_a_topic_feeds_subscribers(nc):
    topic, root = new_topic(), unique("feed")
    route(f"kafka:{topic}", f"nats:{root}.{{key}}")
    all_of_it, one_key = await nc.subscribe(f"{root}.>"), await nc.subscribe(f"{root}.us")
    await nc.flush()
    await apart(produce, topic, ("eu", "1", [("trace", b"t")]), ("us", "2"), ("eu", "3"), ("not a subject", "4"))
    messages = [await all_of_it.next_msg(PATIENCE_S) for _ in range(3)]
    assert [(m.subject, m.data) for m in messages] == [(f"{root}.eu", b"1"), (f"{root}.us", b"2"), (f"{root}.eu", b"3")]
    assert messages[0].headers["trace"] == "t"
    assert (await one_key.next_msg(PATIENCE_S)).data == b"2"
    assert len(await apart(read, topic, 4)) == 4


@with_nats
@shows_nats("a record that a route takes to a stream's subject is stored there with its publish, and read by consumers")
async def test_a_topic_feeds_a_stream(nc):
    topic, name = new_topic(), unique("stream")
    js = nc.jetstream(timeout=PATIENCE_S)
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    route(f"kafka:{topic}", f"nats:{name}.{{key}}")
    await apart(produce, topic, ("eu", "1", [("trace", b"t")]), ("us", "2"), ("eu", "3"))
    assert (await js.stream_info(name)).state.messages == 3
    sub = await js.pull_subscribe(f"{name}.eu", durable="worker")
    messages = await sub.fetch(2, timeout=PATIENCE_S)
    assert [(m.subject, m.data) for m in messages] == [(f"{name}.eu", b"1"), (f"{name}.eu", b"3")]
    assert messages[0].headers["trace"] == "t"
    for message in messages:
        await message.ack_sync(timeout=PATIENCE_S)
    assert (await js.get_last_msg(name, f"{name}.us")).data == b"2"


@with_nats
@shows_nats("core subscribers are served from an SQS queue's address and from an AMQP exchange")
async def test_queues_and_exchanges_feed_subscribers(nc):
    queue, exchange, root = unique("jobs"), unique("events"), unique("seen")
    url = sqs().create_queue(QueueName=queue)["QueueUrl"]
    route(f"sqs:{queue}", f"nats:{root}.sqs")
    with channel() as ch:
        ch.exchange_declare(exchange, "topic")
        route(f"amqp:{exchange}/order.#", f"nats:{root}.amqp.{{token.2}}")
        sub = await nc.subscribe(f"{root}.>")
        await nc.flush()
        attribute = {"who": {"DataType": "String", "StringValue": "me"}}
        await apart(lambda: sqs().send_message(QueueUrl=url, MessageBody="from sqs", MessageAttributes=attribute))
        first = await sub.next_msg(PATIENCE_S)
        assert (first.subject, first.data, first.headers["who"]) == (f"{root}.sqs", b"from sqs", "me")
        properties = persistent(headers={"n": 7}, correlation_id="c-1", content_type="text/plain")
        ch.basic_publish(exchange, "order.created", b"from amqp", properties)
        second = await sub.next_msg(PATIENCE_S)
        assert (second.subject, second.data) == (f"{root}.amqp.created", b"from amqp")
        assert (second.headers["n"], second.headers["correlation-id"]) == ("7", "c-1")
        assert json.loads(second.headers["wm-types"]) == {"n": "int"}
    assert [message["Body"] for message in await apart(take, url, 1)] == ["from sqs"]


# Streams and topics as they are


@with_nats
@shows_nats("a JetStream stream is read as a Kafka topic: the key is the subject, headers are kept")
async def test_a_stream_is_read_as_a_topic(nc):
    name = unique("stream")
    js = nc.jetstream(timeout=PATIENCE_S)
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    for number in range(3):
        await js.publish(f"{name}.{number}", f"m{number}".encode(), headers={"n": str(number)})
    messages = await apart(read, name, 3)
    assert [(m.offset(), m.key(), m.value()) for m in messages] == [
        (n, f"{name}.{n}".encode(), f"m{n}".encode()) for n in range(3)
    ]
    assert [dict(m.headers())["n"] for m in messages] == [b"0", b"1", b"2"]


@with_nats
@shows_nats("a Kafka topic is read by JetStream consumers, pulled and ordered")
async def test_a_topic_is_read_as_a_stream(nc):
    topic = new_topic("asstream")
    await apart(produce, topic, *[(f"k{n}", f"v{n}", [("n", str(n).encode())]) for n in range(5)])
    js = nc.jetstream(timeout=PATIENCE_S)
    info = await js.stream_info(topic)
    assert (info.config.name, info.state.messages, info.state.last_seq) == (topic, 5, 5)
    sub = await js.pull_subscribe_bind(**await durable(js, topic, "worker"))
    messages = await sub.fetch(5, timeout=PATIENCE_S)
    assert [(m.subject, m.data) for m in messages] == [(topic, f"v{n}".encode()) for n in range(5)]
    assert (messages[2].headers["n"], messages[2].headers["wm-key"]) == ("2", "k2")
    for message in messages:
        await message.ack_sync(timeout=PATIENCE_S)
    await apart(produce, topic, ("k5", "v5"))
    (last,) = await sub.fetch(1, timeout=PATIENCE_S)
    assert (last.data, last.metadata.sequence.stream) == (b"v5", 6)
    ordered = await js.subscribe("", stream=topic, ordered_consumer=True)
    assert [(await ordered.next_msg(PATIENCE_S)).data for _ in range(6)] == [f"v{n}".encode() for n in range(6)]


@with_nats
@shows_nats("a record that a Kafka producer sends to a JetStream stream has one of its subjects as key, or is refused")
async def test_a_record_enters_a_stream_under_one_of_its_subjects(nc):
    name = unique("stream")
    js = nc.jetstream(timeout=PATIENCE_S)
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    await apart(produce, name, (f"{name}.a", "v0"), (f"{name}.b", "v1", [("n", b"1")]), (f"{name}.a", "v2"))
    for key in (f"{name}", "elsewhere", f"{name}..x", None):
        with pytest.raises(KafkaException) as refused:
            await apart(produce, name, (key, "x"))
        assert refused.value.args[0].code() == KafkaError.INVALID_RECORD, key
    assert (await js.stream_info(name)).state.messages == 3
    sub = await js.pull_subscribe(f"{name}.b", durable="worker", stream=name)
    (message,) = await sub.fetch(1, timeout=PATIENCE_S)
    assert (message.subject, message.data, message.headers["n"]) == (f"{name}.b", b"v1", "1")
    assert "wm-key" not in message.headers
    last = await js.get_last_msg(name, f"{name}.a")
    assert (last.seq, last.data) == (3, b"v2")
    assert pairs(await apart(read, name, 3))[1] == (f"{name}.b".encode(), b"v1")


@with_nats
@shows_nats("each partition of a Kafka topic is a JetStream stream of its own, under an alias")
async def test_partitions_are_streams(nc):
    topic = new_topic("parts", 3)
    await apart(produce, topic, *[(f"k{n}", f"v{n}") for n in range(30)])
    js = nc.jetstream(timeout=PATIENCE_S)
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.stream_info(topic)
    found = [name for name in await stream_names(nc) if name.startswith(f"{topic}-")]
    assert [re.sub("-[0-9a-f]{6}$", "", name) for name in found] == [f"{topic}-{index}" for index in range(3)]
    of_partition = {}
    for message in await apart(read, topic, 30, 3):
        of_partition.setdefault(message.partition(), []).append(message.value())
    for index, name in enumerate(found):
        expected = of_partition.get(index, [])
        assert (await js.stream_info(name)).state.messages == len(expected)
        sub = await js.pull_subscribe_bind(**await durable(js, name, "worker"))
        messages = await sub.fetch(len(expected), timeout=PATIENCE_S) if expected else []
        assert [(m.subject, m.data) for m in messages] == [(name, value) for value in expected]
        for message in messages:
            await message.ack_sync(timeout=PATIENCE_S)
        info = await js.consumer_info(name, "worker")
        assert (info.stream_name, info.num_ack_pending, info.num_pending) == (name, 0, 0)
    with pytest.raises(nats.js.errors.APIError, match="not deleted by itself"):
        await js.delete_stream(found[0])


async def stream_names(nc):
    names, more = [], True
    while more:
        answer = await nc.request("$JS.API.STREAM.NAMES", json.dumps({"offset": len(names)}).encode(), PATIENCE_S)
        more = json.loads(answer.data)["streams"]
        names += more or []
    return names


async def durable(js, stream, name):
    await js.add_consumer(stream, durable_name=name, ack_policy="explicit")
    return {"stream": stream, "durable": name}


# Exchanges as sources and targets


@shows_amqp("a binding of a topic exchange to a Kafka topic: confirmed when it is stored there, and routed for mandatory")
def test_an_exchange_is_bound_to_a_topic():
    topic, exchange = new_topic(), unique("events")
    with channel() as ch:
        ch.exchange_declare(exchange, "topic")
        route(f"amqp:{exchange}/order.*", f"kafka:{topic}", "--key", "{token.2}")
        ch.confirm_delivery()
        properties = persistent(headers={"n": 7, "deep": {"x": [1, "two"]}}, message_id="m-1", type="order")
        ch.basic_publish(exchange, "order.created", b"body", properties, mandatory=True)
        ch.basic_publish(exchange, "order.paid", b"more", mandatory=True)
        with pytest.raises(pika.exceptions.UnroutableError):
            ch.basic_publish(exchange, "invoice.created", b"nowhere", mandatory=True)
    first, second = read(topic, 2)
    assert pairs([first, second]) == [(b"created", b"body"), (b"paid", b"more")]
    headers = dict(first.headers())
    assert (headers["n"], headers["message-id"], headers["type"]) == (b"7", b"m-1", b"order")
    assert json.loads(headers["wm-types"])["n"] == "int"


@shows_amqp("what is bound to a queue and routed to a topic is in both, in the order in which it was published")
def test_a_queue_and_a_topic():
    topic, exchange, queue = new_topic(), unique("events"), unique("worked")
    with channel() as ch:
        ch.exchange_declare(exchange, "topic")
        ch.queue_declare(queue, durable=True)
        ch.queue_bind(queue, exchange, "a.#")
        route(f"amqp:{exchange}/#", f"kafka:{topic}")
        ch.confirm_delivery()
        for number in range(100):
            ch.basic_publish(exchange, "a.x" if number % 3 else "b", str(number).encode(), persistent())
        assert [int(body) for _, _, body in taken(ch, queue, 66)] == [n for n in range(100) if n % 3]
    assert [int(message.value()) for message in read(topic, 100)] == list(range(100))


@shows_amqp("a Kafka record and a NATS publish enter an exchange by routes and spread by its bindings")
def test_records_enter_an_exchange():
    topic, exchange, subject = new_topic(), unique("events"), unique("subject")
    with channel() as ch:
        ch.exchange_declare(exchange, "topic")
        queues = {key: ch.queue_declare("", exclusive=True).method.queue for key in ("order.#", "*.eu", "none")}
        for key, queue in queues.items():
            ch.queue_bind(queue, exchange, key)
        route(f"kafka:{topic}", f"amqp:{exchange}/order.{{key}}")
        route(f"nats:{subject}.>", f"amqp:{exchange}/{{token.2}}.eu")
        produce(topic, ("eu", "1", [("trace", b"t")]), ("us", "2"))

        async def publish():
            nc = await nats.connect(f"nats://{need('WIREMILL_NATS')}")
            await nc.publish(f"{subject}.invoice", b"3", headers={"h": "v"})
            await nc.close()

        asyncio.run(publish())
        messages = taken(ch, queues["order.#"], 2)
        assert [(m.exchange, m.routing_key, body) for m, _, body in messages] == [
            (exchange, "order.eu", b"1"),
            (exchange, "order.us", b"2"),
        ]
        assert messages[0][1].headers["trace"] == "t"
        of_eu = taken(ch, queues["*.eu"], 2)
        assert [(m.routing_key, body) for m, _, body in of_eu] == [("order.eu", b"1"), ("invoice.eu", b"3")]
        assert of_eu[1][1].headers["h"] == "v"
        assert ch.basic_get(queues["none"]) == (None, None, None)


@shows_amqp("an exchange with bindings that look at headers spreads what enters it by its headers")
def test_records_enter_a_headers_exchange():
    topic, exchange = new_topic(), unique("byheaders")
    with channel() as ch:
        ch.exchange_declare(exchange, "headers")
        queue = ch.queue_declare("", exclusive=True).method.queue
        ch.queue_bind(queue, exchange, arguments={"x-match": "all", "region": "eu"})
        route(f"kafka:{topic}", f"amqp:{exchange}/any")
        produce(topic, ("k", "1", [("region", b"us")]), ("k", "2", [("region", b"eu")]))
        ((_, _, body),) = taken(ch, queue, 1)
        assert body == b"2"


@shows_amqp("a Kafka record and a message of another exchange that enter an exchange of delayed messages by a route wait for their time")
def test_records_that_enter_wait():
    topic, exchange, source = new_topic(), unique("later"), unique("source")
    with channel() as ch:
        ch.exchange_declare(exchange, "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"})
        ch.exchange_declare(source, "fanout")
        queue = ch.queue_declare(unique("due"), durable=True).method.queue
        ch.queue_bind(queue, exchange, "#")
        route(f"kafka:{topic}", f"amqp:{exchange}/kafka.{{key}}")
        route(f"amqp:{source}/#", f"amqp:{exchange}/amqp")
        began = time.monotonic()
        produce(topic, ("k", "late", [("x-delay", b"900")]), ("k", "now"))
        ch.basic_publish(source, "", b"later", persistent(headers={"x-delay": 600}))
        came = [(method.routing_key, body, time.monotonic() - began) for method, _, body in taken(ch, queue, 3)]
        assert [(key, body) for key, body, _ in came] == [("kafka.k", b"now"), ("amqp", b"later"), ("kafka.k", b"late")]
        assert came[1][2] >= 0.6 and came[2][2] >= 0.9, came
        ch.queue_delete(queue)
        ch.exchange_delete(exchange)


@shows_amqp("an AMQP queue is worked by SQS, looked at by a Kafka consumer and by stream tail, and takes SQS messages")
def test_an_amqp_queue_is_worked_by_sqs():
    queue = unique("shared")
    with channel() as ch:
        ch.queue_declare(queue, durable=True)
        ch.confirm_delivery()
        properties = persistent(headers={"n": 7, "text": "x"}, message_id="m-1", content_type="text/plain")
        for number in range(3):
            ch.basic_publish("", queue, f"job {number}".encode(), properties)
        looked = read(queue, 3)
        assert [message.value() for message in looked] == [b"job 0", b"job 1", b"job 2"]
        assert dict(looked[0].headers())["message-id"] == b"m-1"
        lines = wiremill("stream", "tail", queue, "--from", "earliest", "--no-follow").splitlines()
        assert len([line for line in lines if "job" in line]) == 3
        # Nothing of that consumed anything.
        assert ch.queue_declare(queue, passive=True).method.message_count == 3
        url = sqs().get_queue_url(QueueName=queue)["QueueUrl"]
        messages = take(url, 3, VisibilityTimeout=600)
        assert sorted(message["Body"] for message in messages) == ["job 0", "job 1", "job 2"]
        assert messages[0]["MessageAttributes"]["text"]["StringValue"] == "x"
        for message in messages[:2]:
            delete(url, message)
        sqs().change_message_visibility(QueueUrl=url, ReceiptHandle=messages[2]["ReceiptHandle"], VisibilityTimeout=0)
        ((method, again, body),) = taken(ch, queue, 1)
        # The bytes of this protocol are those that were published.
        assert (body.decode(), again.headers, again.message_id) == (messages[2]["Body"], {"n": 7, "text": "x"}, "m-1")
        assert method.redelivered
        attribute = {"who": {"DataType": "String", "StringValue": "me"}}
        sqs().send_message(QueueUrl=url, MessageBody="from sqs", MessageAttributes=attribute)
        ((_, sent, body),) = taken(ch, queue, 1)
        assert (body, sent.headers["who"]) == (b"from sqs", "me")


# What the command line says


@shows_amqp("route explain tells an exchange's bindings, routes and where they lead on")
def test_an_exchange_is_explained():
    topic, exchange, other, queue, subject = new_topic(), unique("events"), unique("other"), unique("q"), unique("s")
    with channel() as ch:
        ch.exchange_declare(exchange, "topic")
        ch.exchange_declare(other, "fanout")
        ch.queue_declare(queue, durable=True)
        ch.exchange_bind(other, exchange, "order.*")
        ch.queue_bind(queue, other)
        route(f"amqp:{exchange}/order.#", f"kafka:{topic}", "--key", "{token.2}")
        route(f"amqp:{exchange}/order.#", f"nats:{subject}.{{token.2}}")
        found = dict(explain(f"amqp:{exchange}/order.created"))
        assert exchange in found[queue] and other in found[queue]
        assert 'with the key "created"' in found[topic]
        assert f"nats:{subject}.created" in found
        assert [who for who, _ in explain(f"amqp:{exchange}/invoice")] == []


@with_nats
@shows_nats("route explain tells a subject's streams, subscribers and routes")
async def test_a_subject_is_explained(nc):
    name, topic = unique("stream"), new_topic()
    await nc.jetstream().add_stream(name=name, subjects=[f"{name}.*"])
    await nc.subscribe(f"{name}.>")
    await nc.subscribe(f"{name}.a", queue="workers")
    await nc.flush()
    route(f"nats:{name}.*", f"kafka:{topic}")
    found = dict(await apart(explain, f"nats:{name}.a"))
    assert f"{name}.*" in found[name]
    assert found["1 live subscriber"] == f"subscribed to {name}.>"
    assert found["one of queue group workers, of 1 here"] == f"subscribed to {name}.a"
    assert "route" in found[topic]
    assert dict(await apart(explain, f"nats:{name}.a.b")).keys() == {"1 live subscriber"}


@shows_amqp("wiremill queue looks at, publishes to, moves and purges AMQP queues; dead letters are redriven")
def test_queues_on_the_command_line():
    queue, other, dead, work = unique("q"), unique("q"), unique("dead"), unique("work")
    with channel() as ch:
        for name in (queue, other, dead):
            ch.queue_declare(name, durable=True)
        ch.queue_declare(work, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        for number in range(3):
            ch.basic_publish("", queue, f"m{number}".encode(), persistent(headers={"n": number}))
        assert queue in wiremill("queue", "ls")
        eventually("three messages wait", lambda: ch.queue_declare(queue, passive=True).method.message_count == 3)
        peeked = wiremill("queue", "peek", queue)
        assert all(f"m{number}" in peeked for number in range(3))
        wiremill("queue", "publish", queue, "by hand")
        wiremill("queue", "move", queue, other)
        messages = taken(ch, other, 4)
        assert [body for _, _, body in messages] == [b"m0", b"m1", b"m2", b"by hand"]
        assert messages[1][1].headers["n"] == 1
        ch.basic_publish("", work, b"bad", persistent())
        method, _, _ = eventually("it comes", lambda: (got := ch.basic_get(work))[0] and got)
        ch.basic_reject(method.delivery_tag, requeue=False)
        eventually("it is dead", lambda: ch.queue_declare(dead, passive=True).method.message_count == 1)
        assert "bad" in wiremill("dlq", "inspect", dead)
        wiremill("dlq", "redrive", dead)
        ((_, _, body),) = taken(ch, work, 1)
        assert body == b"bad"
        ch.basic_publish("", queue, b"gone", persistent())
        eventually("it waits", lambda: ch.queue_declare(queue, passive=True).method.message_count == 1)
        wiremill("queue", "purge", queue)
        assert ch.queue_declare(queue, passive=True).method.message_count == 0


@with_nats
@shows_nats("routes in a circle end: each subscriber has a message once, each stream stores it once")
async def test_a_circle_of_routes(nc):
    one, two, exchange, queue = unique("one"), unique("two"), unique("events"), unique("q")
    with channel() as ch:
        ch.exchange_declare(exchange, "fanout")
        ch.queue_declare(queue, durable=True)
        ch.queue_bind(queue, exchange)
        route(f"nats:{one}", f"nats:{two}")
        route(f"nats:{two}", f"amqp:{exchange}/x")
        route(f"amqp:{exchange}/#", f"nats:{one}")
        subs = [await nc.subscribe(subject) for subject in (one, two)]
        await nc.publish(one, b"m")
        await nc.flush()
        assert (await subs[1].next_msg(PATIENCE_S)).data == b"m"
        assert (await subs[0].next_msg(PATIENCE_S)).data == b"m"
        ((_, _, body),) = taken(ch, queue, 1)
        assert body == b"m"
        await asyncio.sleep(0.2)
        assert subs[1].pending_msgs == 0 and ch.queue_declare(queue, passive=True).method.message_count == 0


@with_nats
@shows_nats("a route whose target is deleted is left out until a stream of that name is made again")
async def test_a_target_that_is_deleted(nc):
    topic, subject = new_topic(), unique("subject")
    route(f"nats:{subject}", f"kafka:{topic}")
    admin = AdminClient({"bootstrap.servers": kafka_address()})
    for future in admin.delete_topics([topic]).values():
        future.result(PATIENCE_S)
    await nc.publish(subject, b"lost")
    await nc.flush()
    for future in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(PATIENCE_S)
    await nc.publish(subject, b"kept")
    await nc.flush()
    assert [message.value() for message in await apart(read, topic, 1)] == [b"kept"]

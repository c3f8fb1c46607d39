"""What librdkafka sees, through confluent-kafka."""

import contextlib
import functools
import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from kit import PATIENCE_S, eventually, kafka_address, unique


def settings(**options):
    return {"bootstrap.servers": kafka_address(), **{name.replace("_", "."): value for name, value in options.items()}}


@functools.cache
def admin():
    """One for all tests: an admin client that is let go of cancels what it was asked."""
    return AdminClient(settings())


def done(futures):
    """Waits for every future of an admin call."""
    return {key: future.result(PATIENCE_S) for key, future in futures.items()}


def new_topic(partitions=1, **config):
    topic = unique("confluent")
    done(admin().create_topics([NewTopic(topic, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})]))
    return topic


def send(producer, topic, values, **options):
    """Produces and returns (partition, offset) of each value, in order; fails on any delivery error."""
    places, errors = {}, []

    def delivered(error, message):
        if error:
            errors.append(error)
        else:
            places[message.value()] = (message.partition(), message.offset())

    for value in values:
        producer.produce(topic, value=value, on_delivery=delivered, **options)
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    assert not errors, errors
    return [places[value] for value in values]


_open = []


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """A consumer that a failed test left behind would keep the process from ending."""
    yield
    while _open:
        with contextlib.suppress(RuntimeError):
            _open.pop().close()


def consumer(**options):
    client = Consumer(settings(**options))
    _open.append(client)
    return client


def member(group, *topics, on_revoke=None, **options):
    client = consumer(
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
        session_timeout_ms=10_000,
        fetch_wait_max_ms=100,
        **options,
    )
    client.subscribe(list(topics), **({"on_revoke": on_revoke} if on_revoke else {}))
    return client


def take(client, count):
    messages = []

    def enough():
        for message in client.consume(count - len(messages), 0.2):
            assert message.error() is None, message.error()
            messages.append(message)
        return len(messages) >= count

    eventually(f"{count} messages come", enough)
    return messages


@pytest.mark.shows("confluent-kafka", "records come back as sent, compressed with gzip, snappy, lz4 and zstd")
def test_every_codec_comes_back_as_sent():
    topic = new_topic()
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    for codec in codecs:
        producer = Producer(settings(compression_type=codec, linger_ms=50))
        send(producer, topic, [f"{codec} {n} ".encode() * 100 for n in range(50)], key=codec, headers={"h": b"v"})
    client = member(unique("codecs"), topic)
    messages = take(client, 250)
    client.close()
    for at, message in enumerate(messages):
        assert message.offset() == at
        assert message.key().decode() == codecs[at // 50]
        assert message.value() == f"{codecs[at // 50]} {at % 50} ".encode() * 100
        assert message.headers() == [("h", b"v")]


@pytest.mark.shows("confluent-kafka", "an idempotent producer stores each message once, in order")
def test_an_idempotent_producer_stores_each_message_once():
    topic = new_topic()
    producer = Producer(settings(enable_idempotence=True, linger_ms=1))
    places = send(producer, topic, [b"%d" % n for n in range(2_000)])
    assert places == [(0, n) for n in range(2_000)]
    client = member(unique("idempotent"), topic)
    assert [int(message.value()) for message in take(client, 2_000)] == list(range(2_000))
    client.close()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
@pytest.mark.shows("confluent-kafka", "a member joins and leaves a classic group ({strategy}): nothing lost, nothing twice")
def test_a_group_shares_the_work(strategy):
    topic, group = new_topic(partitions=4), unique("share")
    producer = Producer(settings())
    processed = []

    def work(client):
        for message in client.consume(20, 0.05):
            assert message.error() is None, message.error()
            processed.append(int(message.value()))
        commit(client)

    def commit(client, rebalancing=(KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError._NO_OFFSET)):
        """What a rebalance refuses here is committed when the partition is given up."""
        try:
            client.commit(asynchronous=False)
        except KafkaException as refused:
            assert refused.args[0].code() in rebalancing, refused

    def revoked(client, _):
        commit(client, [KafkaError._NO_OFFSET])

    def owns(client, count):
        work(client)
        return len(client.assignment()) == count

    first = member(group, topic, on_revoke=revoked, partition_assignment_strategy=strategy)
    eventually("the first member owns everything", lambda: owns(first, 4))
    send(producer, topic, [b"%d" % n for n in range(100)])
    second = member(group, topic, on_revoke=revoked, partition_assignment_strategy=strategy)
    eventually("both own a half", lambda: [owns(first, 2), owns(second, 2)] == [True, True])
    send(producer, topic, [b"%d" % n for n in range(100, 200)])
    eventually("everything came", lambda: [work(first), work(second)] and len(processed) >= 200)
    second.close()
    eventually("the first member owns everything again", lambda: owns(first, 4))
    send(producer, topic, [b"%d" % n for n in range(200, 300)])
    eventually("the rest came", lambda: [work(first)] and len(processed) >= 300)
    first.close()
    assert sorted(processed) == list(range(300))


@pytest.mark.shows("confluent-kafka", "static membership: a member that comes back within its session causes no rebalance")
def test_a_static_member_comes_back_to_its_partitions():
    topic, group = new_topic(partitions=4), unique("static")
    rebalances = []
    options = {"partition_assignment_strategy": "range"}

    def stay():
        client = consumer(group_id=group, group_instance_id="stays", auto_offset_reset="earliest",
                          heartbeat_interval_ms=200, session_timeout_ms=15_000, **options)
        client.subscribe([topic], on_assign=lambda _, parts: rebalances.append(parts), on_revoke=lambda _, parts: rebalances.append(parts))
        return client

    stays = stay()
    goes = member(group, topic, group_instance_id="goes", **options)

    def both():
        stays.poll(0.05)
        goes.poll(0.05)
        return len(stays.assignment()) == 2 and len(goes.assignment()) == 2

    eventually("both own a half", both)
    before, seen = {p.partition for p in goes.assignment()}, len(rebalances)
    goes.close()
    back = member(group, topic, group_instance_id="goes", **options)

    def returned():
        stays.poll(0.05)
        back.poll(0.05)
        return len(back.assignment()) == 2

    eventually("it has partitions again", returned)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        returned()
    assert {p.partition for p in back.assignment()} == before
    assert len(rebalances) == seen, "the member that stayed was rebalanced"
    back.close()
    stays.close()


@pytest.mark.shows("confluent-kafka", "a message above the topic's limit is refused to its sender, and the next one is stored")
def test_a_message_above_the_limit_is_refused():
    topic = new_topic(max_message_bytes="2000")
    reports = []
    producer = Producer(settings())
    for size in (5_000, 100):
        producer.produce(topic, value=b"x" * size, on_delivery=lambda error, _: reports.append(error))
        producer.flush(PATIENCE_S)
    assert reports[0] is not None and reports[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert reports[1] is None


@pytest.mark.shows("confluent-kafka", "topics are created on first use")
def test_an_unknown_topic_is_made_on_first_use():
    topic = unique("auto")
    assert send(Producer(settings()), topic, [b"x"]) == [(0, 0)]
    assert topic in admin().list_topics(timeout=PATIENCE_S).topics


@pytest.mark.shows("confluent-kafka", "topics, settings, offsets, records and groups administered")
def test_a_cluster_is_administered():
    client, topic, group = admin(), new_topic(partitions=1), unique("admin")
    with pytest.raises(KafkaException) as again:
        done(client.create_topics([NewTopic(topic, 1, 1)]))
    assert again.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    cluster = client.describe_cluster().result(PATIENCE_S)
    assert len(cluster.nodes) == 1 and cluster.controller.id == cluster.nodes[0].id and cluster.cluster_id

    send(Producer(settings()), topic, [b"%d" % n for n in range(10)])
    place = TopicPartition(topic, 0)

    def listed(spec):
        return done(client.list_offsets({place: spec}))[place].offset

    assert (listed(OffsetSpec.earliest()), listed(OffsetSpec.latest())) == (0, 10)
    done(client.delete_records([TopicPartition(topic, 0, 3)]))
    assert listed(OffsetSpec.earliest()) == 3

    resource = ConfigResource(ResourceType.TOPIC, topic)
    resource.add_incremental_config(ConfigEntry("retention.ms", "123456789", incremental_operation=AlterConfigOpType.SET))
    done(client.incremental_alter_configs([resource]))
    described = ConfigResource(ResourceType.TOPIC, topic)
    eventually("the setting holds", lambda: done(client.describe_configs([described]))[described]["retention.ms"].value == "123456789")

    worker = member(group, topic)
    assert take(worker, 7)[0].offset() == 3
    worker.commit(asynchronous=False)
    shown = done(client.describe_consumer_groups([group]))[group]
    assert len(shown.members) == 1 and shown.members[0].assignment.topic_partitions == [place]
    worker.close()
    eventually("the group is empty", lambda: done(client.describe_consumer_groups([group]))[group].state.name == "EMPTY")
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 5)])
    done(client.alter_consumer_group_offsets([wanted]))
    found = done(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    assert [(p.topic, p.partition, p.offset) for p in found.topic_partitions] == [(topic, 0, 5)]
    done(client.delete_consumer_groups([group]))
    assert group not in {g.group_id for g in client.list_consumer_groups().result(PATIENCE_S).valid}

    done(client.create_partitions([NewPartitions(topic, 3)]))
    eventually("three partitions", lambda: len(client.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions) == 3)
    done(client.delete_topics([topic]))
    eventually("the topic is gone", lambda: topic not in client.list_topics(timeout=PATIENCE_S).topics)

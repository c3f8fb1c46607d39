"""What kafka-python sees, as the client of several releases."""

import contextlib
import time

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
from kafka.errors import CommitFailedError, RebalanceInProgressError, TopicAlreadyExistsError

from kit import eventually, kafka_address, unique

RELEASES = ["0.11", "1.0", "2.1", "2.5", "3.0", "3.9", "4.1", "its own choice"]


# An hour ago: retention goes by the producer's clock, and takes what is a week old.
FIRST_MS = int(time.time() * 1_000) - 3_600_000


def pinned(release):
    """The release as the client wants it; without one it asks the broker."""
    return tuple(int(part) for part in release.split(".")) if release[0].isdigit() else None


def admin(**options):
    return KafkaAdminClient(bootstrap_servers=kafka_address(), **options)


def new_topic(partitions=1, **options):
    topic = unique("kafka-python")
    client = admin(**options)
    client.create_topics([NewTopic(topic, partitions, 1)])
    client.close()
    return topic


def producer(**options):
    return KafkaProducer(bootstrap_servers=kafka_address(), **options)


def consumer(*topics, **options):
    defaults = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 200, "metadata_max_age_ms": 1_000, "heartbeat_interval_ms": 200}
    member = KafkaConsumer(bootstrap_servers=kafka_address(), **{**defaults, **options})
    if topics:
        # This client's leader may assign before it has asked for the topics' partitions, and then assigns none.
        eventually("the partitions are known", lambda: all(member.partitions_for_topic(topic) for topic in topics))
        member.subscribe(topics)
    return member


def take(client, count):
    records = []

    def enough():
        for batch in client.poll(timeout_ms=200).values():
            records.extend(batch)
        return len(records) >= count

    eventually(f"{count} records come", enough)
    return records


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.shows("kafka-python", "produce, group consume and commit as a client of release {release}")
def test_a_client_of_any_release_produces_and_consumes_in_a_group(release):
    version = pinned(release)
    topic, group = new_topic(partitions=3), unique("group")
    sender = producer(api_version=version, acks="all")
    for n in range(30):
        sent = sender.send(topic, key=b"%d" % (n % 5), value=b"%d" % n, headers=[("h", b"v")]).get(timeout=30)
        assert sent.topic == topic
    sender.close()
    member = consumer(topic, group_id=group, api_version=version, enable_auto_commit=False)
    records = take(member, 30)
    assert sorted(int(record.value) for record in records) == list(range(30))
    for key in range(5):
        numbers = [int(record.value) for record in records if record.key == b"%d" % key]
        assert numbers == sorted(numbers)
    assert list(records[0].headers) == [("h", b"v")]
    partitions = [TopicPartition(topic, n) for n in range(3)]

    def all_committed():
        # A slow one may have fallen out of its group: it joins again, and reads again what it had not committed.
        with contextlib.suppress(RebalanceInProgressError, CommitFailedError):
            member.commit()
            if sum(member.committed(partition) or 0 for partition in partitions) == 30:
                return True
        member.poll(timeout_ms=200)
        return False

    eventually("everything is committed", all_committed)
    ends = member.end_offsets(partitions)
    assert sum(ends.values()) == 30
    member.close()
    follower = consumer(topic, group_id=group, api_version=version)
    sender = producer()
    sender.send(topic, value=b"next").get(timeout=30)
    sender.close()
    assert [record.value for record in take(follower, 1)] == [b"next"]
    follower.close()


@pytest.mark.shows("kafka-python", "records come back as sent, compressed with gzip, snappy, lz4 and zstd")
def test_every_codec_comes_back_as_sent():
    topic = new_topic()
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    for codec in codecs:
        sender = producer(compression_type=codec)
        for n in range(20):
            sender.send(topic, key=str(codec).encode(), value=b"%d " % n * 200, timestamp_ms=FIRST_MS + n)
        sender.flush()
        sender.close()
    reader = consumer(topic)
    records = take(reader, 100)
    reader.close()
    assert [record.offset for record in records] == list(range(100))
    for at, record in enumerate(records):
        assert record.key == str(codecs[at // 20]).encode()
        assert record.value == b"%d " % (at % 20) * 200
        assert record.timestamp == FIRST_MS + at % 20


@pytest.mark.shows("kafka-python", "an idempotent producer stores each message once, in order")
def test_an_idempotent_producer_stores_each_message_once():
    topic = new_topic()
    sender = producer(enable_idempotence=True, linger_ms=1)
    futures = [sender.send(topic, value=b"%d" % n) for n in range(1_000)]
    assert [future.get(timeout=30).offset for future in futures] == list(range(1_000))
    sender.close()
    reader = consumer(topic)
    assert [int(record.value) for record in take(reader, 1_000)] == list(range(1_000))
    reader.close()


@pytest.mark.shows("kafka-python", "seek to begin, end and time")
def test_a_reader_goes_where_it_wants():
    topic = new_topic()
    sender = producer()
    for n in range(10):
        sender.send(topic, value=b"%d" % n, timestamp_ms=FIRST_MS + n * 1_000)
    sender.flush()
    sender.close()
    partition = TopicPartition(topic, 0)
    reader = consumer()
    reader.assign([partition])
    found = reader.offsets_for_times({partition: FIRST_MS + 3_500})
    assert found[partition].offset == 4
    reader.seek(partition, 4)
    assert take(reader, 6)[0].offset == 4
    reader.seek_to_beginning(partition)
    assert take(reader, 10)[0].offset == 0
    reader.seek_to_end(partition)
    assert reader.position(partition) == 10
    reader.close()


@pytest.mark.parametrize("release", ["2.1", "its own choice"])
@pytest.mark.shows("kafka-python", "topics, settings and groups administered as a client of release {release}")
def test_a_cluster_is_administered(release):
    client = admin(api_version=pinned(release))
    topic, group = unique("admin"), unique("admin")
    client.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "123456789"})])
    with pytest.raises(TopicAlreadyExistsError):
        client.create_topics([NewTopic(topic, 2, 1)])
    client.create_partitions({topic: NewPartitions(3)})
    eventually("three partitions", lambda: len(client.describe_topics([topic])[0]["partitions"]) == 3)
    member = consumer(topic, group_id=group)
    sender = producer()
    sender.send(topic, value=b"x").get(timeout=30)
    sender.close()
    take(member, 1)
    member.commit()
    assert group in {listed["group_id"] for listed in client.list_groups()}
    member.close()
    offsets = client.list_group_offsets(group)
    assert sum(offset.offset for offset in offsets[group].values()) == 1
    client.delete_groups([group])
    eventually("the group is gone", lambda: group not in {listed["group_id"] for listed in client.list_groups()})
    client.delete_topics([topic])
    eventually("the topic is gone", lambda: topic not in client.list_topics())
    client.close()

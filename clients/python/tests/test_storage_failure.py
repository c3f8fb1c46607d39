"""A disk that refuses to write while programs of four dialects publish and settle: nothing is answered that is not so."""

import asyncio

import nats
import pika
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import brokers
import sqskit
from kit import PATIENCE_S

MIB = 1 << 20
# The first file of the log may not grow to the length of one.
FILE_LEN_MAX = 6 * MIB
PREFILLED = 2_000
BODY = "x" * 4_000

CAPABILITY = "a disk that refuses to write: what was answered is so after a restart, and nothing more is answered"


def shows(client, protocol):
    return pytest.mark.shows(client, CAPABILITY, protocol=protocol)


class Answered:
    """What one program was told: how many it has published, and what it has settled."""

    def __init__(self):
        self.published, self.settled = [], []


def until_refused(step):
    """Runs a step again and again, until it is refused."""
    for number in range(100_000):
        try:
            step(number)
        except Exception as refused:  # whatever the client's own word for it is
            return refused
    return None


class Kafka:
    topic, group = "failing", "workers"

    def __init__(self, broker):
        self.servers = {"bootstrap.servers": broker.address("kafka"), "socket.timeout.ms": 3_000}
        self.answered = Answered()

    def producer(self):
        return Producer({**self.servers, "message.timeout.ms": 3_000, "linger.ms": 0})

    def consumer(self):
        return Consumer({**self.servers, "group.id": self.group, "enable.auto.commit": False, "auto.offset.reset": "earliest"})

    def prepare(self):
        self.publish(self.producer(), "first")

    def publish(self, producer, body):
        told = []
        producer.produce(self.topic, value=body, on_delivery=lambda error, _: told.append(error))
        producer.flush(PATIENCE_S)
        if told != [None]:
            raise RuntimeError(f"not stored: {told}")
        self.answered.published.append(body)

    def run(self):
        producer, consumer = self.producer(), self.consumer()

        def step(number):
            self.publish(producer, f"{number} {BODY}")
            consumer.commit(offsets=[TopicPartition(self.topic, 0, number + 1)], asynchronous=False)
            self.answered.settled.append(number + 1)

        return until_refused(step)

    def check(self):
        consumer = self.consumer()
        (committed,) = consumer.committed([TopicPartition(self.topic, 0)], timeout=PATIENCE_S)
        assert committed.offset >= max(self.answered.settled)
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        bodies = []
        while len(bodies) < len(self.answered.published):
            message = consumer.poll(PATIENCE_S)
            assert message and not message.error(), f"{len(bodies)} of {len(self.answered.published)} records"
            bodies.append(message.value().decode())
        assert bodies == self.answered.published
        consumer.close()


class Sqs:
    def __init__(self, broker):
        self.client = sqskit.client("http://" + broker.address("aws"))
        self.answered = Answered()

    def prepare(self):
        self.sent = self.client.create_queue(QueueName="sent")["QueueUrl"]
        self.worked = self.client.create_queue(QueueName="worked", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
        for first in range(0, PREFILLED, 10):
            entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, first + 10)]
            assert len(self.client.send_message_batch(QueueUrl=self.worked, Entries=entries)["Successful"]) == 10

    def run(self):
        def step(number):
            body = f"{number} {BODY}"
            self.client.send_message(QueueUrl=self.sent, MessageBody=body)
            self.answered.published.append(body)
            for message in self.client.receive_message(QueueUrl=self.worked).get("Messages", []):
                self.client.delete_message(QueueUrl=self.worked, ReceiptHandle=message["ReceiptHandle"])
                self.answered.settled.append(message["Body"])

        return until_refused(step)

    def check(self):
        bodies = set()
        while batch := self.client.receive_message(QueueUrl=self.sent, MaxNumberOfMessages=10).get("Messages"):
            bodies.update(message["Body"] for message in batch)
        assert bodies >= set(self.answered.published)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        left = self.client.get_queue_attributes(QueueUrl=self.worked, AttributeNames=names)["Attributes"]
        assert sum(map(int, left.values())) <= PREFILLED - len(self.answered.settled)


class JetStream:
    def __init__(self, broker):
        self.url = f"nats://{broker.nats}"
        self.answered = Answered()

    async def connected(self):
        return await nats.connect(self.url, allow_reconnect=False)

    def prepare(self):
        async def main():
            nc = await self.connected()
            js = nc.jetstream(timeout=PATIENCE_S)
            await js.add_stream(name="SENT", subjects=["sent.>"])
            await js.add_stream(name="WORKED", subjects=["worked.>"], retention="workqueue")
            for number in range(PREFILLED):
                await js.publish_async(f"worked.{number}", b"")
            await js.publish_async_completed()
            await nc.close()

        asyncio.run(main())

    def run(self):
        async def main():
            nc = await self.connected()
            js = nc.jetstream(timeout=3)
            work = await js.pull_subscribe("worked.>", durable="workers")
            try:
                for number in range(100_000):
                    body = f"{number} {BODY}"
                    await js.publish("sent.x", body.encode())
                    self.answered.published.append(body)
                    if number < PREFILLED:
                        (message,) = await work.fetch(1, timeout=3)
                        await message.ack_sync(timeout=3)
                        self.answered.settled.append(message.subject)
            except Exception as refused:
                return refused
            finally:
                await nc.close()

        return asyncio.run(main())

    def check(self):
        async def main():
            nc = await self.connected()
            js = nc.jetstream(timeout=PATIENCE_S)
            sub = await js.subscribe("sent.>", ordered_consumer=True)
            for body in self.answered.published:
                assert (await sub.next_msg(timeout=PATIENCE_S)).data.decode() == body
            worked = await js.stream_info("WORKED", subjects_filter=">")
            assert not set(worked.state.subjects or {}) & set(self.answered.settled)
            await nc.close()

        asyncio.run(main())


class Amqp:
    def __init__(self, broker):
        host, port = broker.address("amqp").rsplit(":", 1)
        self.parameters = pika.ConnectionParameters(host, int(port), blocked_connection_timeout=10)
        self.answered = Answered()

    def prepare(self):
        with pika.BlockingConnection(self.parameters) as connection:
            connection.channel().queue_declare("confirmed", durable=True)

    def run(self):
        connection = pika.BlockingConnection(self.parameters)
        channel = connection.channel()
        channel.confirm_delivery()
        persistent = pika.BasicProperties(delivery_mode=2)

        def step(number):
            body = f"{number} {BODY}"
            channel.basic_publish("", "confirmed", body.encode(), persistent)
            self.answered.published.append(body)
            # A declaration is a promise, too.
            if number % 50 == 0:
                channel.queue_declare(f"declared-{number}", durable=True)
                self.answered.settled.append(f"declared-{number}")

        return until_refused(step)

    def check(self):
        with pika.BlockingConnection(self.parameters) as connection:
            channel = connection.channel()
            for queue in self.answered.settled:
                channel.queue_declare(queue, passive=True)
            bodies = []
            while len(bodies) < len(self.answered.published):
                got, _, body = channel.basic_get("confirmed", auto_ack=True)
                assert got, f"{len(bodies)} of {len(self.answered.published)} messages"
                bodies.append(body.decode())
            assert bodies == self.answered.published


@pytest.mark.timeout(4 * PATIENCE_S)
@pytest.mark.parametrize("dialect", [
    pytest.param(Kafka, marks=shows("confluent-kafka", protocol="Kafka")),
    pytest.param(Sqs, marks=shows("boto3", protocol="SQS")),
    pytest.param(JetStream, marks=shows("nats-py", protocol="NATS")),
    pytest.param(Amqp, marks=shows("pika", protocol="AMQP")),
])
def test_nothing_is_answered_that_is_not_stored(dialect):
    listeners = ("kafka", "amqp", "nats", "aws", "admin")
    with brokers.started(used=listeners, file_len_max=FILE_LEN_MAX) as broker:
        program = dialect(broker)
        program.prepare()
        assert program.run() is not None, "the disk took everything"
        assert broker.ended() != 0
        assert program.answered.published and program.answered.settled
        broker.start()
        program.check()

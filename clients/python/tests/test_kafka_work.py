"""What working a queue must show (the suite that the other clients run too), on a topic with confluent-kafka."""

import pathlib

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

import workcases
from kit import PATIENCE_S, eventually, kafka_address, unique
from workcases import TellingWorker


class TopicQueue(workcases.Queue):
    """A topic, its dead letters and a group."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        self.folder = folder
        self.group, self.topic, self.dead = unique("work"), unique("work"), unique("work-dead")
        admin = AdminClient({"bootstrap.servers": kafka_address()})
        for made in admin.create_topics([NewTopic(self.topic, 6, 1), NewTopic(self.dead, 1, 1)]).values():
            made.result(PATIENCE_S)
        self.producer = Producer({"bootstrap.servers": kafka_address(), "enable.idempotence": True})

    def hire(self, *mode) -> TellingWorker:
        log = self.folder / f"{len(self.workers)}.log"
        self.workers.append(TellingWorker("kafka_worker.py", log, kafka_address(), self.group, self.topic, self.dead, *mode))
        return self.workers[-1]

    def publish(self, messages):
        refused = []
        for key, body in messages:
            self.producer.produce(self.topic, key=key, value=body, on_delivery=lambda error, _: error and refused.append(error))
        assert self.producer.flush(PATIENCE_S) == 0 and not refused, refused

    def dead_letters(self, count: int) -> list:
        """Waits until there are `count`, and returns them."""
        reader = Consumer({"bootstrap.servers": kafka_address(), "group.id": unique("dead"), "auto.offset.reset": "earliest"})
        reader.subscribe([self.dead])
        found = []

        def enough():
            found.extend((m.key().decode(), m.value().decode()) for m in reader.consume(10, 0.2) if m.error() is None)
            return len(found) >= count

        try:
            eventually(f"{count} dead letters", enough)
        finally:
            reader.close()
        return found


@pytest.fixture
def queue(tmp_path):
    made = TopicQueue(tmp_path)
    yield made
    made.close()


globals().update(workcases.tests("confluent-kafka", "Kafka"))

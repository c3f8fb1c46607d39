"""What working a queue must show (the suite that the other clients run too), on a topic with confluent-kafka."""

import pathlib

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from kit import PATIENCE_S, eventually, kafka_address, unique
from workers import Worker

ATTEMPTS = 3


def shows(capability):
    return pytest.mark.shows("confluent-kafka", f"work: {capability}")


class KafkaWorker(Worker):
    def told(self, what: str) -> list:
        """The words of the lines of one kind, without the kind."""
        lines = [line.split() for line in self.lines()]
        return [words[1:] for words in lines if words[0] == what]


class Queue:
    """A topic, its dead letters and a group, and everybody who works it."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.workers = folder, []
        self.group, self.topic, self.dead = unique("work"), unique("work"), unique("work-dead")
        admin = AdminClient({"bootstrap.servers": kafka_address()})
        for made in admin.create_topics([NewTopic(self.topic, 6, 1), NewTopic(self.dead, 1, 1)]).values():
            made.result(PATIENCE_S)
        self.producer = Producer({"bootstrap.servers": kafka_address(), "enable.idempotence": True})

    def hire(self, *mode) -> KafkaWorker:
        log = self.folder / f"{len(self.workers)}.log"
        self.workers.append(KafkaWorker("kafka_worker.py", log, kafka_address(), self.group, self.topic, self.dead, *mode))
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

    def told(self, what: str) -> list:
        return [words for worker in self.workers for words in worker.told(what)]

    def done(self) -> list:
        """(key, body) of everything that was worked to its end, in the order of time."""
        return [(key, body) for key, body, _ in sorted(self.told("done"), key=lambda words: int(words[2]))]

    def drain(self):
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.drain()


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path)
    yield made
    for worker in made.workers:
        worker.kill()


def numbered(first, end, keys=5, kinds=None):
    """(key, body) of each number; `kinds` says which bodies are of a kind of their own."""
    return [(f"key-{n % keys}", f"{(kinds or {}).get(n, '')}{n:06}") for n in range(first, end)]


@shows("a message whose handler failed comes again")
def test_after_a_failure(queue):
    messages = numbered(0, 10, kinds={3: "flaky-"})
    queue.publish(messages)
    queue.hire()
    eventually("everything is worked", lambda: len(queue.done()) == 10)
    queue.drain()
    assert sorted(queue.done()) == sorted(messages)
    assert [words[1:] for words in queue.told("took") if words[1] == "flaky-000003"] == [["flaky-000003", "1"], ["flaky-000003", "2"]]
    assert len(queue.told("took")) == 11


@shows("what a killed worker had in hand comes again, to another")
def test_after_a_killed_worker(queue):
    queue.publish(numbered(0, 10))
    victim = queue.hire("hold")
    ((_, held, _),) = eventually("something is in hand", lambda: victim.told("took"))
    victim.kill()
    heir = queue.hire()
    eventually(f"another has worked everything, {held} too", lambda: len(queue.done()) == 10)
    assert held in [body for _, body in queue.done()] and victim.told("done") == []
    heir.drain()


@shows(f"a message that fails {ATTEMPTS} times becomes a dead letter, once")
def test_dead_letter(queue):
    queue.publish(numbered(0, 20, kinds={7: "poison-"}))
    queue.hire()
    assert queue.dead_letters(1) == [("key-2", "poison-000007")]
    eventually("everything else is worked", lambda: len(queue.done()) == 19)
    queue.drain()
    assert len([words for words in queue.told("failed") if words[1] == "poison-000007"]) == ATTEMPTS


@shows("messages of one key are worked in their order, by any number of workers")
def test_order_per_key(queue):
    for _ in range(3):
        queue.hire()
    for first in range(0, 500, 50):
        queue.publish(numbered(first, first + 50, keys=10))
    eventually("everything is worked", lambda: len(set(queue.done())) == 500)
    queue.drain()
    for key in {key for key, _ in queue.done()}:
        mine = [body for done, body in queue.done() if done == key]
        assert mine == sorted(set(mine)), key


@shows("workers that drain and are replaced lose nothing and repeat nothing")
def test_drain(queue):
    workers = [queue.hire(), queue.hire()]
    for round_ in range(4):
        queue.publish(numbered(round_ * 50, round_ * 50 + 50, keys=10))
        # Some of them are worked, others in hand or on their way.
        eventually("work goes on", lambda: len(queue.done()) > round_ * 50)
        workers[round_ % 2].drain()
        workers[round_ % 2] = queue.hire()
    eventually("everything is worked", lambda: len(set(queue.done())) == 200)
    queue.drain()
    assert sorted(queue.done()) == sorted(numbered(0, 200, keys=10))

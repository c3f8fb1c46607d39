"""Workers as processes of their own: they fail, are killed, and are replaced while messages come in."""

import pathlib

import pytest

from amqpkit import channel, count, persistent, taken
from kit import eventually, need, unique
from workers import BodyWorker

ATTEMPTS = 3


def shows(capability):
    return pytest.mark.shows("pika", capability, protocol="AMQP")


class AmqpWorker(BodyWorker):
    def __init__(self, queue: str, log: pathlib.Path):
        super().__init__("amqp_worker.py", log, need("WIREMILL_AMQP"), queue)


@pytest.fixture
def hire(tmp_path):
    """Starts workers, and ends those that a test leaves behind."""
    workers = []

    def start(queue):
        workers.append(AmqpWorker(queue, tmp_path / f"{len(workers)}.log"))
        workers[-1].awaits("ready")
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def ch():
    with channel() as opened:
        opened.confirm_delivery()
        yield opened


@pytest.fixture
def queues(ch):
    """Makes a quorum queue, which counts attempts, with a queue for its dead letters."""
    made = []

    def make(**arguments):
        queue, dead = unique("work"), unique("dead")
        ch.queue_declare(dead, durable=True)
        ch.queue_declare(queue, durable=True, arguments={
            "x-queue-type": "quorum", "x-delivery-limit": ATTEMPTS - 1,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **arguments,
        })
        made.extend((queue, dead))
        return queue, dead

    yield make
    for name in made:
        ch.queue_delete(name)


def send(ch, queue, *bodies):
    for body in bodies:
        ch.basic_publish("", queue, body.encode(), persistent(), mandatory=True)


def settled(ch, queue, workers):
    """Waits until nothing is ready; what is out is settled when the workers have drained."""
    eventually("the queue is empty", lambda: count(ch, queue) == 0)
    for worker in workers:
        worker.drain()
    assert count(ch, queue) == 0


@shows("work: a message whose handler failed comes again")
def test_redelivery_after_a_failure(ch, queues, hire):
    queue, _ = queues()
    worker = hire(queue)
    send(ch, queue, "flaky", "sound")
    eventually("both are done", lambda: len(worker.done()) == 2)
    settled(ch, queue, [worker])
    assert worker.told("flaky") == ["took flaky 1", "failed flaky", "took flaky 2", "done flaky"]
    assert worker.told("sound") == ["took sound 1", "done sound"]


@shows("work: what a killed worker had in hand comes again, to another")
def test_redelivery_after_a_killed_consumer(ch, queues, hire):
    queue, _ = queues()
    send(ch, queue, "slow", "sound")
    victim = hire(queue)
    victim.awaits("took slow 1")
    assert count(ch, queue) == 0
    victim.kill()
    messages = taken(ch, queue, 2)
    assert [(body, method.redelivered) for method, _, body in messages] == [(b"slow", True), (b"sound", True)]


@shows(f"work: a message that fails {ATTEMPTS} times becomes a dead letter, once")
def test_dead_letter_after_n_attempts(ch, queues, hire):
    queue, dead = queues()
    worker = hire(queue)
    send(ch, queue, "poison", "sound")
    ((_, properties, body),) = taken(ch, dead, 1)
    assert body == b"poison" and properties.headers["x-first-death-reason"] == "delivery_limit"
    settled(ch, queue, [worker])
    assert worker.told("poison") == [line for n in (1, 2, 3) for line in (f"took poison {n}", "failed poison")]
    assert count(ch, dead) == 0


@shows("work: messages of one queue are worked in their order while its worker fails and is killed")
def test_order(ch, queues, hire):
    queue, _ = queues(**{"x-single-active-consumer": True, "x-delivery-limit": 20})
    workers = [hire(queue) for _ in range(3)]
    wanted = [f"{'flaky-' if n % 50 == 7 else ''}{n}" for n in range(200)]
    send(ch, queue, *wanted[:100])
    eventually("work goes on", lambda: len(workers[0].done()) >= 20)
    workers[0].kill()
    send(ch, queue, *wanted[100:])
    settled(ch, queue, workers[1:])
    done = [int(body.rsplit("-", 1)[-1]) for _, body in sorted(entry for worker in workers for entry in worker.done())]
    # What was given back comes behind what its worker had in hand by then, up to the prefetch; of the killed worker the
    # last ones are worked once more.
    firsts = list(dict.fromkeys(done))
    assert sorted(firsts) == list(range(200))
    straight = [n for n in firsts if n % 50 != 7]
    assert straight == sorted(straight)
    assert len(done) - len(firsts) <= 5


@shows("work: workers that drain and are replaced lose nothing and repeat nothing")
def test_drain_on_shutdown(ch, queues, hire):
    queue, _ = queues()
    workers = [hire(queue) for _ in range(3)]
    wanted = []
    for round_ in range(3):
        batch = [f"{round_}-{n}" for n in range(100)]
        send(ch, queue, *batch)
        wanted += batch
        workers.append(hire(queue))
        workers[round_].drain()
    settled(ch, queue, workers[3:])
    done = [body for worker in workers for _, body in worker.done()]
    assert sorted(done) == sorted(wanted)

"""Workers as processes of their own: they fail, are killed, and are replaced while messages come in."""

import pathlib

import pytest

from kit import eventually
from sqskit import arn, bodies, counts, endpoint, new_queue, sqs, take
from workers import BodyWorker


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


class SqsWorker(BodyWorker):
    def __init__(self, queue: str, log: pathlib.Path):
        super().__init__("sqs_worker.py", log, endpoint(), queue)


@pytest.fixture
def hire(tmp_path):
    """Starts workers, and ends those that a test leaves behind."""
    workers = []

    def start(queue):
        workers.append(SqsWorker(queue, tmp_path / f"{len(workers)}.log"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def send(queue, *all_bodies, **options):
    for body in all_bodies:
        sqs().send_message(QueueUrl=queue, MessageBody=body, **options)


def settled(queue):
    eventually("the queue is empty", lambda: counts(queue) == (0, 0, 0))


@shows("redelivery after a failure: what a worker left comes again after the visibility timeout")
def test_redelivery_after_a_failure(hire):
    queue = new_queue("work", VisibilityTimeout="1")
    worker = hire(queue)
    send(queue, "flaky", "sound")
    settled(queue)
    worker.drain()
    assert worker.told("flaky") == ["took flaky 1", "failed flaky", "took flaky 2", "done flaky"]
    assert "done sound" in worker.told("sound")


@shows("redelivery after a killed consumer: its message comes to another")
def test_redelivery_after_a_killed_consumer(hire):
    queue = new_queue("work", VisibilityTimeout="2")
    send(queue, "slow")
    victim = hire(queue)
    victim.awaits("took slow 1")
    victim.kill()
    (message,) = take(queue, 1)
    assert (message["Body"], message["Attributes"]["ApproximateReceiveCount"]) == ("slow", "2")


@shows("dead letter after n attempts of a worker")
def test_dead_letter_after_n_attempts(hire):
    dead = new_queue("dead")
    queue = new_queue("work", VisibilityTimeout="1", RedrivePolicy={"deadLetterTargetArn": arn(dead), "maxReceiveCount": 3})
    worker = hire(queue)
    send(queue, "poison", "sound")
    assert bodies(take(dead, 1)) == ["poison"]
    settled(queue)
    worker.drain()
    assert worker.told("poison") == [line for n in (1, 2, 3) for line in (f"took poison {n}", "failed poison")]


@shows("order per group with a failing worker among three: every group is worked in order")
def test_order_per_group(hire):
    queue = new_queue("work", fifo=True, ContentBasedDeduplication="true", VisibilityTimeout="2")
    groups = ["ann", "bob", "cem", "dot"]
    workers = [hire(queue) for _ in range(3)]
    for n in range(10):
        for group in groups:
            send(queue, f"{'flaky-' if n % 5 == 3 else ''}{group}-{n}", MessageGroupId=group)
    settled(queue)
    for worker in workers:
        worker.drain()
    done = [body for _, body in sorted(entry for worker in workers for entry in worker.done())]
    for group in groups:
        # A worker that was too slow loses its message to another, which then repeats it: order is that of the first time.
        mine = list(dict.fromkeys(int(body.rsplit("-", 1)[1]) for body in done if f"{group}-" in body))
        assert mine == list(range(10)), group


@shows("drain on shutdown: workers replaced one after another lose and repeat nothing")
def test_drain_on_shutdown(hire):
    queue = new_queue("work", VisibilityTimeout="120")
    workers = [hire(queue) for _ in range(3)]
    for worker in workers:
        worker.awaits("ready")
    wanted = []
    for round_ in range(3):
        batch = [f"{round_}-{n}" for n in range(100)]
        for start in range(0, 100, 10):
            sqs().send_message_batch(QueueUrl=queue, Entries=[{"Id": b, "MessageBody": b} for b in batch[start:start + 10]])
        wanted += batch
        workers.append(hire(queue))
        workers[-1].awaits("ready")
        workers[round_].drain()
    settled(queue)
    for worker in workers[3:]:
        worker.drain()
    done = [body for worker in workers for _, body in worker.done()]
    assert sorted(done) == sorted(wanted)

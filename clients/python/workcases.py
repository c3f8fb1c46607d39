"""What working a queue must show, once for every dialect: a module with an adapter puts [tests] of it into its globals.

An adapter is a fixture `queue` with a [Queue]: its workers are processes that tell in lines what they do, `took KEY BODY
ATTEMPT`, `done KEY BODY TIME` and `failed KEY BODY`. They fail with a body `poison…` always, with `flaky…` the first time,
and hired with `hold` they never finish what they take.
"""

import pytest

from kit import eventually
from workers import Worker

ATTEMPTS = 3


class TellingWorker(Worker):
    def told(self, what: str) -> list:
        """The words of the lines of one kind, without the kind."""
        lines = [line.split() for line in self.lines()]
        return [words[1:] for words in lines if words[0] == what]

    def drain(self):
        # Before that it does not know what a signal means.
        eventually("the worker is ready", lambda: "ready" in self.lines())
        super().drain()


class Queue:
    """A fresh place to work, and everybody who works it. An adapter adds `hire`, `publish` and `dead_letters`."""

    def __init__(self):
        self.workers = []

    def told(self, what: str) -> list:
        return [words for worker in self.workers for words in worker.told(what)]

    def done(self) -> list:
        """(key, body) of everything that was worked to its end, in the order of time."""
        return [(key, body) for key, body, _ in sorted(self.told("done"), key=lambda words: int(words[2]))]

    def drain(self):
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.drain()

    def close(self):
        for worker in self.workers:
            worker.kill()


def numbered(first, end, keys=5, kinds=None):
    """(key, body) of each number; `kinds` says which bodies are of a kind of their own."""
    return [(f"key-{n % keys}", f"{(kinds or {}).get(n, '')}{n:06}") for n in range(first, end)]


def after_a_failure(queue):
    messages = numbered(0, 10, kinds={3: "flaky-"})
    queue.publish(messages)
    queue.hire()
    eventually("everything is worked", lambda: len(queue.done()) == 10)
    queue.drain()
    assert sorted(queue.done()) == sorted(messages)
    assert [words[1:] for words in queue.told("took") if words[1] == "flaky-000003"] == [["flaky-000003", "1"], ["flaky-000003", "2"]]
    assert len(queue.told("took")) == 11


def after_a_killed_worker(queue):
    queue.publish(numbered(0, 10))
    victim = queue.hire("hold")
    ((_, held, _),) = eventually("something is in hand", lambda: victim.told("took"))
    victim.kill()
    heir = queue.hire()
    eventually(f"another has worked everything, {held} too", lambda: len(queue.done()) == 10)
    assert held in [body for _, body in queue.done()] and victim.told("done") == []
    heir.drain()


def dead_letter(queue):
    queue.publish(numbered(0, 20, kinds={7: "poison-"}))
    queue.hire()
    assert queue.dead_letters(1) == [("key-2", "poison-000007")]
    eventually("everything else is worked", lambda: len(queue.done()) == 19)
    queue.drain()
    assert len([words for words in queue.told("failed") if words[1] == "poison-000007"]) == ATTEMPTS


def order_per_key(queue):
    for _ in range(3):
        queue.hire()
    for first in range(0, 500, 50):
        queue.publish(numbered(first, first + 50, keys=10))
    eventually("everything is worked", lambda: len(set(queue.done())) == 500)
    queue.drain()
    for key in {key for key, _ in queue.done()}:
        mine = [body for done, body in queue.done() if done == key]
        assert mine == sorted(set(mine)), key


def drain(queue):
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


CASES = {
    "a message whose handler failed comes again": after_a_failure,
    "what a killed worker had in hand comes again, to another": after_a_killed_worker,
    f"a message that fails {ATTEMPTS} times becomes a dead letter, once": dead_letter,
    "messages of one key are worked in their order, by any number of workers": order_per_key,
    "workers that drain and are replaced lose nothing and repeat nothing": drain,
}


def tests(client: str, protocol: str) -> dict:
    """The tests of a module, by their names."""

    def test_of(capability, play):
        def run(queue):
            play(queue)

        run.__name__ = f"test_{play.__name__}"
        return pytest.mark.shows(client, f"work: {capability}", protocol=protocol)(run)

    made = [test_of(capability, play) for capability, play in CASES.items()]
    return {test.__name__: test for test in made}

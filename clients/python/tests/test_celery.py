"""A Celery worker on SQS: a process of its own, tasks that fail, workers that are killed."""

import pytest

from celerykit import Site, kill
from kit import PATIENCE_S, eventually, need, unique
from sqskit import counts, sqs


def shows(capability):
    return pytest.mark.shows("celery", capability, protocol="SQS")


class QueueSite(Site):
    def __init__(self, folder):
        environment = {"TASKS_PREFIX": unique("celery") + "-", "WIREMILL_AWS": need("WIREMILL_AWS")}
        super().__init__(
            "celery_tasks", folder, environment,
            "--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat",
        )

    def queue(self) -> str:
        (url,) = sqs().list_queues(QueueNamePrefix=self.environment["TASKS_PREFIX"])["QueueUrls"]
        return url

    def settled(self):
        eventually("every task is acknowledged", lambda: counts(self.queue()) == (0, 0, 0))


@pytest.fixture
def site(tmp_path):
    site = QueueSite(tmp_path)
    yield site
    site.end()


@shows("a worker runs tasks, again those that ask for a retry, and acknowledges each when it is done")
def test_a_worker_runs_and_retries_tasks(site):
    site.worker()
    site.send("[add.delay('sums', n, n) for n in range(20)]; flaky.delay('flaky'); later.apply_async(('later', time.time()), countdown=2)")
    eventually("every sum is told", lambda: len(site.told("sums")) == 20)
    assert sorted(map(int, site.told("sums"))) == [2 * n for n in range(20)]
    site.awaits("flaky", ["attempt 0", "attempt 1", "attempt 2"])
    (waited,) = eventually("the task with a countdown runs", lambda: site.told("later"))
    assert float(waited) >= 2
    site.settled()


@shows("late acknowledgement: the task of a killed worker is run by another")
def test_the_task_of_a_killed_worker_is_run_by_another(site):
    victim = site.worker()
    site.send("outlived.delay('outlived')")
    site.awaits("outlived", ["delivered"])
    kill(victim)
    site.worker()
    eventually("it is run again", lambda: len(site.told("outlived")) == 2)
    site.settled()
    assert len(site.told("outlived")) == 2


@shows("a warm shutdown in the middle of the work loses nothing")
def test_a_warm_shutdown_loses_nothing(site):
    first = site.worker()
    site.send("[add.delay('sums', n, 0) for n in range(40)]")
    eventually("some are done", lambda: len(site.told("sums")) >= 5)
    first.terminate()
    assert first.wait(PATIENCE_S) == 0
    site.worker()
    eventually("all are done", lambda: len(set(site.told("sums"))) == 40)
    site.settled()
    # What was on its way to the worker when it stopped may be run again.
    assert set(map(int, site.told("sums"))) == set(range(40))

"""A Celery worker on SQS: a process of its own, tasks that fail, workers that are killed."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from kit import PATIENCE_S, eventually, need, unique
from sqskit import counts, sqs

PROGRAMS = pathlib.Path(__file__).parent.parent / "programs"


def shows(capability):
    return pytest.mark.shows("celery", capability, protocol="SQS")


class Site:
    """One application: its queues' prefix, the folder its tasks tell in, its workers."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.workers = folder, []
        self.environment = {
            **os.environ, "TASKS_FOLDER": str(folder), "TASKS_PREFIX": unique("celery") + "-",
            "WIREMILL_AWS": need("WIREMILL_AWS"),
        }

    def run(self, *arguments):
        """Something of the application in a process of its own, as a web server that sends tasks is."""
        return subprocess.run([sys.executable, *arguments], cwd=PROGRAMS, env=self.environment, check=True, timeout=PATIENCE_S)

    def send(self, calls: str):
        self.run("-c", f"import time; from celery_tasks import *; {calls}")

    def worker(self):
        with open(self.folder / "worker.log", "a", encoding="utf-8") as log:
            self.workers.append(subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2",
                 "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"],
                cwd=PROGRAMS, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            ))
        return self.workers[-1]

    def told(self, name: str) -> list:
        path = self.folder / name
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def awaits(self, name: str, lines: list):
        try:
            eventually(f"{name} is {lines}", lambda: self.told(name) == lines)
        except BaseException:
            print(self.told(name), (self.folder / "worker.log").read_text(encoding="utf-8"))
            raise

    def queue(self) -> str:
        (url,) = sqs().list_queues(QueueNamePrefix=self.environment["TASKS_PREFIX"])["QueueUrls"]
        return url

    def settled(self):
        eventually("every task is acknowledged", lambda: counts(self.queue()) == (0, 0, 0))


def kill(worker):
    """The worker and its pool, as a machine that goes away takes them."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    for worker in site.workers:
        if worker.poll() is None:
            kill(worker)


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

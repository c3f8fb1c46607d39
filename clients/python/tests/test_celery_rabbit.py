"""A Celery worker with Celery's default broker URL: a process of its own, with gossip, mingle and remote control."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from kit import PATIENCE_S, eventually, need, unique

PROGRAMS = pathlib.Path(__file__).parent.parent / "programs"


def shows(capability):
    return pytest.mark.shows("celery", capability, protocol="AMQP")


class Site:
    """One application: its queue, the folder its tasks tell in, its workers."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.workers = folder, []
        self.environment = {
            **os.environ, "TASKS_FOLDER": str(folder), "TASKS_QUEUE": unique("celery"), "WIREMILL_AMQP": need("WIREMILL_AMQP"),
        }

    def send(self, calls: str) -> str:
        """Something of the application in a process of its own, as a web server that sends tasks is."""
        done = subprocess.run(
            [sys.executable, "-c", f"import time; from celery_rabbit import *; {calls}"], cwd=PROGRAMS, env=self.environment,
            check=True, timeout=PATIENCE_S, capture_output=True, text=True,
        )
        return done.stdout

    def worker(self):
        with open(self.folder / "worker.log", "a", encoding="utf-8") as log:
            self.workers.append(subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_rabbit", "worker", "--concurrency", "1", "--loglevel", "INFO"],
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

    def end(self):
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(PATIENCE_S)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.end()


@shows("tasks run and give their results back, retries, and tasks for later, with the default broker URL")
def test_tasks(site):
    site.worker()
    assert site.send("print(add.delay(2, 3).get(timeout=60))").strip() == "5"
    site.send("flaky.delay('flaky')")
    site.awaits("flaky", ["attempt 0", "attempt 1", "attempt 2"])
    site.send("later.apply_async(('later', time.time()), countdown=2)")
    eventually("the later task ran", lambda: site.told("later"))
    assert float(site.told("later")[0]) >= 2


@shows("a task of a higher priority comes before those that wait")
def test_priorities(site):
    site.send("[note.apply_async(('order', str(p)), priority=p) for p in (0, 1, 5, 3)]")
    site.worker()
    site.awaits("order", ["5", "3", "1", "0"])


@shows("a task whose worker is killed runs again, and says so")
def test_killed_worker(site):
    first = site.worker()
    site.send("outlived.delay('outlived')")
    site.awaits("outlived", ["delivered"])
    os.killpg(first.pid, signal.SIGKILL)
    site.worker()
    site.awaits("outlived", ["delivered", "redelivered"])

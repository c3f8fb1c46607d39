"""A Celery worker with Celery's default broker URL: a process of its own, with gossip, mingle and remote control."""

import pytest

from celerykit import Site, kill
from kit import eventually, need, unique


def shows(capability):
    return pytest.mark.shows("celery", capability, protocol="AMQP")


@pytest.fixture
def site(tmp_path):
    environment = {"TASKS_QUEUE": unique("celery"), "WIREMILL_AMQP": need("WIREMILL_AMQP")}
    site = Site("celery_rabbit", tmp_path, environment, "--concurrency", "1")
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
    kill(first)
    site.worker()
    site.awaits("outlived", ["delivered", "redelivered"])

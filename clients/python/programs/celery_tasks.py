"""A Celery application on SQS as its documentation shows it; what the tasks did is told in files."""

import os
import pathlib
import time

from celery import Celery

FOLDER = pathlib.Path(os.environ["TASKS_FOLDER"])

app = Celery("tasks", broker=f"sqs://test:test@{os.environ['WIREMILL_AWS']}")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1", "is_secure": False, "queue_name_prefix": os.environ["TASKS_PREFIX"],
        "visibility_timeout": 5, "wait_time_seconds": 1, "polling_interval": 0,
    },
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


def tell(name: str, line: str) -> None:
    with open(FOLDER / name, "a", encoding="utf-8") as file:
        file.write(line + "\n")


@app.task
def add(name, x, y):
    tell(name, str(x + y))


@app.task(bind=True, max_retries=3)
def flaky(self, name):
    tell(name, f"attempt {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)


@app.task(bind=True)
def outlived(self, name):
    """Stays in hand the first time, until its worker is killed."""
    first = not (FOLDER / name).exists()
    tell(name, "redelivered" if self.request.delivery_info.get("redelivered") else "delivered")
    if first:
        time.sleep(600)


@app.task
def later(name, sent):
    tell(name, str(time.time() - sent))

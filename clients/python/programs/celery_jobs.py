"""Tasks that any Celery application here has; what they did is told in files."""

import os
import pathlib
import time

from celery import shared_task

FOLDER = pathlib.Path(os.environ["TASKS_FOLDER"])

# What the applications have in common.
SETTINGS = {
    "broker_connection_retry_on_startup": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_hijack_root_logger": False,
}


def tell(name: str, line: str) -> None:
    with open(FOLDER / name, "a", encoding="utf-8") as file:
        file.write(line + "\n")


@shared_task(bind=True, max_retries=3)
def flaky(self, name):
    tell(name, f"attempt {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)


@shared_task(bind=True)
def outlived(self, name):
    """Stays in hand the first time, until its worker is killed."""
    first = not (FOLDER / name).exists()
    tell(name, "redelivered" if self.request.delivery_info.get("redelivered") else "delivered")
    if first:
        time.sleep(600)


@shared_task
def later(name, sent):
    tell(name, str(time.time() - sent))

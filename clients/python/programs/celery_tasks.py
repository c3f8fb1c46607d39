"""A Celery application on SQS as its documentation shows it; what the tasks did is told in files."""

import os

from celery import Celery

from celery_jobs import SETTINGS, flaky, later, outlived, tell

app = Celery("tasks", broker=f"sqs://test:test@{os.environ['WIREMILL_AWS']}")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1", "is_secure": False, "queue_name_prefix": os.environ["TASKS_PREFIX"],
        "visibility_timeout": 5, "wait_time_seconds": 1, "polling_interval": 0,
    },
    **SETTINGS,
)


@app.task
def add(name, x, y):
    tell(name, str(x + y))

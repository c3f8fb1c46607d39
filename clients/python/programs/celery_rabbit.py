"""A Celery application with Celery's default broker, RabbitMQ; what the tasks did is told in files."""

import os

from celery import Celery

from celery_jobs import SETTINGS, flaky, later, outlived, tell

app = Celery("tasks", broker=f"amqp://guest:guest@{os.environ['WIREMILL_AMQP']}//", backend="rpc://")
app.conf.update(task_default_queue=os.environ["TASKS_QUEUE"], task_queue_max_priority=5, **SETTINGS)


@app.task
def add(x, y):
    return x + y


@app.task
def note(name, line):
    tell(name, line)

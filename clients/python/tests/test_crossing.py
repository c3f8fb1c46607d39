"""Orders that kafkajs produces to a topic, worked by boto3 from a queue, with no process between them."""

import json
import pathlib
import subprocess

import pytest

from kit import PATIENCE_S, need, unique
from sqskit import counts, delete, receive, sqs, take

NODE = pathlib.Path(__file__).parent.parent.parent / "node"


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


def run(*command) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kafkajs(*arguments) -> list:
    """The program with kafkajs, and what it printed."""
    return [json.loads(line) for line in run("node", NODE / "programs" / "orders.js", *arguments).splitlines()]


def wiremill(*arguments) -> str:
    return run(need("WIREMILL_BIN"), *arguments, "--admin", need("WIREMILL_ADMIN"))


def queue_url(name: str) -> str:
    return sqs().get_queue_url(QueueName=name)["QueueUrl"]


def number(message) -> int:
    return json.loads(message["Body"])["payload"]["n"]


@shows("a queue over a Kafka topic: orders that kafkajs produced are worked and deleted, and stay in the topic")
def test_a_kafka_topic_is_worked_as_a_queue():
    topic, name = unique("orders"), unique("jobs")
    kafkajs("produce", topic, "20")
    wiremill("queue", "create", name, "--over", topic)
    jobs = queue_url(name)
    messages = take(jobs, 20, VisibilityTimeout=600)
    assert sorted(map(number, messages)) == list(range(20))
    first = next(message for message in messages if number(message) == 0)
    assert first["MessageAttributes"]["x-trace-id"] == {"DataType": "String", "StringValue": "trace-0"}
    # What fails comes again, what is done does not.
    failed = messages[7]
    sqs().change_message_visibility(QueueUrl=jobs, ReceiptHandle=failed["ReceiptHandle"], VisibilityTimeout=0)
    for message in messages:
        if message is not failed:
            delete(jobs, message)
    (again,) = take(jobs, 1)
    assert number(again) == number(failed) and again["Attributes"]["ApproximateReceiveCount"] == "2"
    delete(jobs, again)
    assert receive(jobs) == [] and counts(jobs) == (0, 0, 0)
    stored = kafkajs("read", topic, "20")
    assert [json.loads(record["value"])["payload"]["n"] for record in stored] == list(range(20))


@shows("a route from a Kafka topic into a queue: each order that kafkajs produces reaches the queue once")
def test_a_route_from_a_kafka_topic_into_a_queue():
    topic, name = unique("orders"), unique("notifications")
    jobs = sqs().create_queue(QueueName=name)["QueueUrl"]
    wiremill("route", "add", f"kafka:{topic}", f"sqs:{name}")
    kafkajs("produce", topic, "20")
    messages = take(jobs, 20, VisibilityTimeout=600)
    assert sorted(map(number, messages)) == list(range(20))
    for message in messages:
        delete(jobs, message)
    assert counts(jobs) == (0, 0, 0)
    assert len(kafkajs("read", topic, "20")) == 20


@shows("a queue with a memory: what was deleted is made available again, here or elsewhere")
def test_a_queue_with_a_memory():
    name, other = unique("remembers"), unique("elsewhere")
    jobs = sqs().create_queue(QueueName=name, tags={"wiremill:history": "3d"})["QueueUrl"]
    elsewhere = sqs().create_queue(QueueName=other)["QueueUrl"]
    for body in ("a", "b"):
        sqs().send_message(QueueUrl=jobs, MessageBody=body)
    for message in take(jobs, 2, VisibilityTimeout=600):
        delete(jobs, message)
    assert receive(jobs) == [] and counts(jobs) == (0, 0, 0)
    wiremill("queue", "replay", name, "--from", "2d")
    again = take(jobs, 2, VisibilityTimeout=600)
    assert sorted(message["Body"] for message in again) == ["a", "b"]
    for message in again:
        delete(jobs, message)
    wiremill("queue", "replay", name, "--from", "2d", "--to", other)
    assert sorted(message["Body"] for message in take(elsewhere, 2)) == ["a", "b"]
    assert receive(jobs) == []

"""SQS as applications of this suite use it: clients, queues, and what they hold."""

import functools
import json
import os

import boto3
import botocore.session
from botocore.config import Config

from kit import eventually, need, unique

REGION = "us-east-1"

# What this boto3 speaks: "json", and in old ones "query".
PROTOCOL = botocore.session.get_session().get_service_model("sqs").metadata["protocol"]


def endpoint() -> str:
    return "http://" + need("WIREMILL_AWS")


def client(address=None, **options):
    """The client as a program makes it; only the address is ours."""
    defaults = {"region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    settings = Config(read_timeout=90, retries={"total_max_attempts": 1}, max_pool_connections=32)
    return boto3.client("sqs", endpoint_url=address or endpoint(), config=settings, **{**defaults, **options})


@functools.cache
def sqs():
    return client()


def new_queue(prefix="queue", fifo=False, **attributes) -> str:
    """The URL of a fresh queue."""
    name = unique(prefix)[-70:]
    if fifo:
        name, attributes = name + ".fifo", {"FifoQueue": "true", **attributes}
    attributes = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
    return sqs().create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def arn(url: str) -> str:
    return attributes(url, "QueueArn")["QueueArn"]


def attributes(url: str, *names) -> dict:
    return sqs().get_queue_attributes(QueueUrl=url, AttributeNames=list(names) or ["All"])["Attributes"]


def counts(url: str) -> tuple:
    """Messages that are visible, in flight and delayed."""
    names = ["", "NotVisible", "Delayed"]
    found = attributes(url, *("ApproximateNumberOfMessages" + name for name in names))
    return tuple(int(found["ApproximateNumberOfMessages" + name]) for name in names)


def receive(url: str, count=10, wait_s=0, **options) -> list:
    """What one call gives; every attribute is asked for."""
    answer = sqs().receive_message(
        QueueUrl=url, MaxNumberOfMessages=count, WaitTimeSeconds=wait_s,
        AttributeNames=["All"], MessageAttributeNames=["All"], **options,
    )
    return answer.get("Messages", [])


def take(url: str, count: int, **options) -> list:
    """Receives until `count` messages have come."""
    messages = []

    def enough():
        messages.extend(receive(url, min(10, count - len(messages)), wait_s=1, **options))
        return len(messages) >= count

    eventually(f"{count} messages come", enough)
    return messages


def bodies(messages) -> list:
    return [message["Body"] for message in messages]


def delete(url: str, message) -> None:
    sqs().delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

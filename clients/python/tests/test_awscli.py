"""The command line of AWS, with credentials from its usual variables."""

import base64
import json
import os
import pathlib
import subprocess
import sys

import pytest

from kit import PATIENCE_S, unique
from sqskit import REGION, endpoint


def shows(capability):
    return pytest.mark.shows("awscli", capability, protocol="SQS")


def run(*arguments):
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION, "AWS_PAGER": "",
    }
    program = pathlib.Path(sys.executable).parent / "aws"
    # For SQS this client overlooks AWS_ENDPOINT_URL.
    return subprocess.run([program, "--endpoint-url", endpoint(), *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def aws(*arguments):
    """What `aws sqs ARGUMENTS` prints."""
    done = run("sqs", *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@shows("a queue is made, sent to, received from with binary attributes, and deleted")
def test_a_queue_from_the_command_line():
    name = unique("cli")
    queue = aws("create-queue", "--queue-name", name, "--attributes", "VisibilityTimeout=60")["QueueUrl"]
    assert aws("list-queues", "--queue-name-prefix", name) == {"QueueUrls": [queue]}
    sent = aws(
        "send-message", "--queue-url", queue, "--message-body", "from the command line",
        "--message-attributes", json.dumps({"raw": {"DataType": "Binary", "BinaryValue": "typed"}}),
    )
    answer = aws("receive-message", "--queue-url", queue, "--wait-time-seconds", "5", "--attribute-names", "All", "--message-attribute-names", "All")
    (message,) = answer["Messages"]
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "from the command line")
    assert message["MessageAttributes"]["raw"]["BinaryValue"] == base64.b64encode(b"typed").decode()
    assert aws("delete-message", "--queue-url", queue, "--receipt-handle", message["ReceiptHandle"]) is None
    found = aws("get-queue-attributes", "--queue-url", queue, "--attribute-names", "ApproximateNumberOfMessages", "VisibilityTimeout")
    assert found == {"Attributes": {"ApproximateNumberOfMessages": "0", "VisibilityTimeout": "60"}}
    aws("delete-queue", "--queue-url", queue)


@shows("an error is told with AWS's code and text")
def test_an_error_from_the_command_line():
    done = run("sqs", "get-queue-url", "--queue-name", unique("missing"))
    assert done.returncode != 0
    assert "(AWS.SimpleQueueService.NonExistentQueue) when calling the GetQueueUrl operation" in done.stderr
    assert "The specified queue does not exist." in done.stderr


@shows("sts get-caller-identity names the account")
def test_the_caller_is_identified():
    done = run("sts", "get-caller-identity", "--output", "json")
    assert done.returncode == 0, done.stderr
    identity = json.loads(done.stdout)
    assert identity["Account"] == "000000000000" and identity["Arn"].startswith("arn:aws:")

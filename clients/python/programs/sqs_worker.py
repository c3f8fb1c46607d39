"""A queue worker as people write it. What fails is left to the visibility timeout; SIGTERM drains it.

It tells what it does in one line each on its standard output: `took BODY COUNT`, `done BODY TIME`, `failed
BODY`, and `late BODY` when the message was another's before it was deleted. A body `slow…` is worked until the process is killed, `poison…` always fails, `flaky…` fails the first time. After a failure
the rest of its group waits with it.
"""

import signal
import sys
import threading
import time

import boto3
from botocore.exceptions import ClientError

stopping = threading.Event()


class Failure(Exception):
    """The work could not be done."""


def tell(*words):
    print(*words, flush=True)


def handle(body: str, count: int) -> None:
    if body.startswith("slow"):
        threading.Event().wait()
    if body.startswith("poison") or (body.startswith("flaky") and count == 1):
        raise Failure


def main(endpoint: str, queue: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    sqs = boto3.client(
        "sqs", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    tell("ready")
    while not stopping.is_set():
        answer = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1,
            AttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
        )
        blocked = set()
        for message in answer.get("Messages", []):
            body, count = message["Body"], int(message["Attributes"]["ApproximateReceiveCount"])
            group = message["Attributes"].get("MessageGroupId")
            if group in blocked:
                continue
            tell("took", body, count)
            try:
                handle(body, count)
            except Failure:
                tell("failed", body)
                blocked.update([group] if group else [])
                continue
            tell("done", body, time.monotonic_ns())
            try:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            except ClientError:
                tell("late", body)
    tell("drained")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Sends what is in the queue of notifications: prints each, and deletes it."""

import json
import os

import boto3

sqs = boto3.client(
    "sqs",
    endpoint_url=f"http://{os.environ.get('WIREMILL_AWS', '127.0.0.1:4566')}",
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
queue = sqs.get_queue_url(QueueName=os.environ.get("NOTIFICATIONS", "notifications"))["QueueUrl"]
while True:
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=20)
    for message in answer.get("Messages", []):
        notification = json.loads(message["Body"])
        print(f"order {notification['order']} to {notification['to']}", flush=True)
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

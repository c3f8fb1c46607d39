"""What boto3 sees of queues: made, found, configured, tagged, deleted."""

import json

import pytest

from kit import eventually, unique
from sqskit import REGION, arn, attributes, client, counts, new_queue, sqs


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


@shows("a queue is made, found by its name, listed and deleted")
def test_a_queue_is_made_found_listed_and_deleted():
    name = unique("life")
    url = sqs().create_queue(QueueName=name)["QueueUrl"]
    assert url.endswith(f"/000000000000/{name}")
    assert sqs().create_queue(QueueName=name)["QueueUrl"] == url
    assert sqs().get_queue_url(QueueName=name)["QueueUrl"] == url
    assert sqs().list_queues(QueueNamePrefix=name)["QueueUrls"] == [url]
    assert arn(url) == f"arn:aws:sqs:{REGION}:000000000000:{name}"
    sqs().delete_queue(QueueUrl=url)
    assert "QueueUrls" not in sqs().list_queues(QueueNamePrefix=name)
    with pytest.raises(sqs().exceptions.QueueDoesNotExist):
        sqs().send_message(QueueUrl=url, MessageBody="x")


@shows("queues are listed page by page")
def test_queues_are_listed_page_by_page():
    prefix = unique("page")
    urls = [sqs().create_queue(QueueName=f"{prefix}-{n}")["QueueUrl"] for n in range(7)]
    pages = list(sqs().get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 3}))
    assert [len(page["QueueUrls"]) for page in pages] == [3, 3, 1]
    assert sorted(url for page in pages for url in page["QueueUrls"]) == urls


@shows("a new queue has the documented defaults")
def test_a_new_queue_has_the_documented_defaults():
    found = attributes(new_queue())
    for name, value in {
        "VisibilityTimeout": "30", "MessageRetentionPeriod": "345600", "DelaySeconds": "0",
        "ReceiveMessageWaitTimeSeconds": "0", "MaximumMessageSize": "1048576", "SqsManagedSseEnabled": "true",
        "ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
    }.items():
        assert found[name] == value, name
    assert found["CreatedTimestamp"] <= found["LastModifiedTimestamp"]
    assert not {"FifoQueue", "RedrivePolicy", "Policy"} & found.keys()


@shows("attributes are set, read back one by one, and obeyed")
def test_attributes_are_set_and_read_back():
    queue, dead = new_queue(), new_queue("dead")
    wanted = {
        "VisibilityTimeout": "77", "MessageRetentionPeriod": "86400", "DelaySeconds": "0",
        "ReceiveMessageWaitTimeSeconds": "0", "MaximumMessageSize": "2048",
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn(dead), "maxReceiveCount": 5}),
    }
    sqs().set_queue_attributes(QueueUrl=queue, Attributes=wanted)
    found = attributes(queue, *wanted)
    assert json.loads(found.pop("RedrivePolicy")) == {"deadLetterTargetArn": arn(dead), "maxReceiveCount": 5}
    wanted.pop("RedrivePolicy")
    assert found == wanted
    assert sqs().list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [queue]
    with pytest.raises(sqs().exceptions.ClientError):
        sqs().send_message(QueueUrl=queue, MessageBody="x" * 2_049)
    sqs().set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": ""})
    assert "RedrivePolicy" not in attributes(queue)


@shows("making a queue again succeeds when the settings agree, and else names the one that differs")
def test_making_a_queue_again():
    name = unique("again")
    url = sqs().create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
    assert sqs().create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"] == url
    with pytest.raises(sqs().exceptions.QueueNameExists) as refused:
        sqs().create_queue(QueueName=name, Attributes={"VisibilityTimeout": "8"})
    assert refused.value.response["Error"] == {**refused.value.response["Error"], "Code": "QueueAlreadyExists"}
    assert refused.value.response["Error"]["Message"].endswith(
        "A queue already exists with the same name and a different value for attribute VisibilityTimeout"
    )


@shows("tags are given at creation, added, listed and removed")
def test_tags_are_given_listed_and_removed():
    url = sqs().create_queue(QueueName=unique("tags"), tags={"team": "orders", "stage": "test"})["QueueUrl"]
    assert sqs().list_queue_tags(QueueUrl=url)["Tags"] == {"team": "orders", "stage": "test"}
    sqs().tag_queue(QueueUrl=url, Tags={"stage": "production", "größe": "ünïcode"})
    sqs().untag_queue(QueueUrl=url, TagKeys=["team", "absent"])
    assert sqs().list_queue_tags(QueueUrl=url)["Tags"] == {"stage": "production", "größe": "ünïcode"}


@shows("permissions are added to the policy and removed from it")
def test_permissions_are_added_and_removed():
    url = new_queue()
    sqs().add_permission(QueueUrl=url, Label="partner", AWSAccountIds=["111122223333"], Actions=["SendMessage", "ReceiveMessage"])
    policy = json.loads(attributes(url, "Policy")["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Sid"] == "partner" and statement["Effect"] == "Allow" and statement["Resource"] == arn(url)
    assert statement["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}
    assert sorted(statement["Action"]) == ["SQS:ReceiveMessage", "SQS:SendMessage"]
    sqs().remove_permission(QueueUrl=url, Label="partner")
    assert "Policy" not in attributes(url) or json.loads(attributes(url)["Policy"])["Statement"] == []


@shows("queues of another account and of another region are others")
def test_accounts_and_regions_are_apart():
    name = unique("apart")
    home = sqs().create_queue(QueueName=name)["QueueUrl"]
    elsewhere = {
        "region": client(region_name="eu-central-1"),
        "account": client(aws_access_key_id="123456789012"),
    }
    for what, other in elsewhere.items():
        with pytest.raises(other.exceptions.QueueDoesNotExist):
            other.get_queue_url(QueueName=name)
        url = other.create_queue(QueueName=name)["QueueUrl"]
        other.send_message(QueueUrl=url, MessageBody=what)
        assert [message["Body"] for message in other.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]] == [what]
    assert counts(home) == (0, 0, 0)
    found = elsewhere["account"].get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    assert found["QueueArn"] == f"arn:aws:sqs:{REGION}:123456789012:{name}"


@shows("a queue deleted and made again is empty, and old receipt handles do not match it")
def test_a_queue_deleted_and_made_again_is_empty():
    name = unique("again")
    url = sqs().create_queue(QueueName=name)["QueueUrl"]
    sqs().send_message(QueueUrl=url, MessageBody="old")
    handle = sqs().receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]["ReceiptHandle"]
    sqs().delete_queue(QueueUrl=url)
    assert sqs().create_queue(QueueName=name)["QueueUrl"] == url
    eventually("it is empty", lambda: counts(url) == (0, 0, 0))
    with pytest.raises(sqs().exceptions.ReceiptHandleIsInvalid):
        sqs().delete_message(QueueUrl=url, ReceiptHandle=handle)

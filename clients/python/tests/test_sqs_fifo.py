"""An order stream by group on FIFO queues, repeats, dead letters and the way back, as boto3 sees them."""

import time

import pytest

from kit import eventually
from sqskit import arn, attributes, bodies, counts, delete, new_queue, receive, sqs, take


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


def order_queue(**attributes):
    return new_queue("orders", fifo=True, ContentBasedDeduplication="true", **attributes)


def send(queue, body, group, **options):
    return sqs().send_message(QueueUrl=queue, MessageBody=body, MessageGroupId=group, **options)


@shows("a FIFO order stream: each group in order, while its first message is worked nothing of the group is given")
def test_an_order_stream_by_group():
    queue = order_queue(VisibilityTimeout="60")
    orders = ["created", "paid", "packed", "shipped"]
    for step in orders:
        for customer in ("ann", "bob", "cem"):
            send(queue, f"{customer}: {step}", customer)
    seen = {"ann": [], "bob": [], "cem": []}
    while sum(map(len, seen.values())) < 12:
        batch = receive(queue, count=1, wait_s=5)
        assert batch, seen
        customer, step = batch[0]["Body"].split(": ")
        assert batch[0]["Attributes"]["MessageGroupId"] == customer
        # What else is given now is of other groups.
        others = receive(queue, count=10)
        assert all(other["Attributes"]["MessageGroupId"] != customer for other in others)
        for other in others:
            sqs().change_message_visibility(QueueUrl=queue, ReceiptHandle=other["ReceiptHandle"], VisibilityTimeout=0)
        seen[customer].append(step)
        delete(queue, batch[0])
    assert seen == {customer: orders for customer in seen}


@shows("a message of a FIFO group that failed comes again before those after it")
def test_a_failed_message_comes_again_first():
    queue = order_queue()
    for n in range(4):
        send(queue, str(n), "g")
    first = receive(queue, count=2, VisibilityTimeout=2)
    assert bodies(first) == ["0", "1"]
    delete(queue, first[0])
    assert receive(queue) == []
    (again, *rest) = take(queue, 3)
    assert bodies([again, *rest]) == ["1", "2", "3"]
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    numbers = [int(message["Attributes"]["SequenceNumber"]) for message in [*first, *rest]]
    assert numbers == sorted(set(numbers)) and all(len(m["Attributes"]["SequenceNumber"]) == 20 for m in first)


@shows("a repeat within the deduplication window is answered with the first message's id and stored once")
def test_a_repeat_is_stored_once():
    queue = new_queue("once", fifo=True)
    first = send(queue, "x", "g", MessageDeduplicationId="d-1")
    (message,) = take(queue, 1)
    delete(queue, message)
    again = send(queue, "something else", "g", MessageDeduplicationId="d-1")
    assert (again["MessageId"], again["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    other = send(queue, "x", "g", MessageDeduplicationId="d-2")
    assert other["MessageId"] != first["MessageId"] and int(other["SequenceNumber"]) > int(first["SequenceNumber"])
    (message,) = take(queue, 1)
    assert message["Attributes"]["MessageDeduplicationId"] == "d-2"
    by_content = order_queue()
    assert send(by_content, "same", "g")["MessageId"] == send(by_content, "same", "g")["MessageId"]
    assert counts(by_content) == (1, 0, 0)


@shows("deduplication by group: two groups may use the same id")
def test_deduplication_by_group():
    queue = order_queue(DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    ids = {send(queue, "same", group)["MessageId"] for group in ("a", "b", "a", "b")}
    assert len(ids) == 2 and counts(queue) == (2, 0, 0)


@shows("the same receive attempt asked again gives the same messages")
def test_the_same_attempt_gives_the_same_messages():
    queue = order_queue()
    for n in range(3):
        send(queue, str(n), "g")
    first = receive(queue, count=2, ReceiveRequestAttemptId="attempt-1")
    again = receive(queue, count=2, ReceiveRequestAttemptId="attempt-1")
    assert bodies(first) == bodies(again) == ["0", "1"]
    assert receive(queue) == []


@shows("a FIFO receipt handle expires with its visibility timeout")
def test_a_fifo_handle_expires():
    queue = order_queue(VisibilityTimeout="1")
    send(queue, "x", "g")
    (message,) = take(queue, 1)
    time.sleep(1.5)
    with pytest.raises(sqs().exceptions.ClientError) as refused:
        delete(queue, message)
    error = refused.value.response["Error"]
    assert error["Code"] == "InvalidParameterValue"
    handle = message["ReceiptHandle"]
    assert error["Message"] == f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."


@shows("a delayed FIFO queue gives each message after its delay, in order")
def test_a_delayed_fifo_queue():
    queue = order_queue(DelaySeconds="1")
    for n in range(3):
        send(queue, str(n), "g")
    assert receive(queue) == []
    assert counts(queue) == (0, 0, 3)
    for n in range(3):
        (message,) = take(queue, 1)
        assert message["Body"] == str(n)
        delete(queue, message)


@shows("fair queues: a group id on a standard queue comes back, and does not block")
def test_a_group_on_a_standard_queue():
    queue = new_queue("fair")
    for n in range(4):
        send(queue, str(n), "tenant")
    first = take(queue, 2)
    assert len(take(queue, 2)) == 2
    assert first[0]["Attributes"]["MessageGroupId"] == "tenant"


@pytest.mark.parametrize("kind", ["standard", "FIFO"])
@shows("dead letters of a {kind} queue: after n attempts, with body, attributes, id and count, and a task moves them back")
def test_dead_letters_and_the_way_back(kind):
    fifo = kind == "FIFO"
    options = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if fifo else {}
    dead = new_queue("dead", fifo=fifo)
    work = new_queue("work", fifo=fifo, RedrivePolicy={"deadLetterTargetArn": arn(dead), "maxReceiveCount": "2"})
    value = {"reason": {"DataType": "Binary", "BinaryValue": b"\0\xff"}}
    sent = sqs().send_message(QueueUrl=work, MessageBody="poison", MessageAttributes=value, **options)
    for attempt in ("1", "2"):
        (message,) = take(work, 1, VisibilityTimeout=0 if attempt == "1" else 1)
        assert message["Attributes"]["ApproximateReceiveCount"] == attempt
    eventually("it is dead-lettered", lambda: receive(work) == [] and counts(work) == (0, 0, 0))
    (message,) = take(dead, 1)
    assert (message["MessageId"], message["Body"], message["MessageAttributes"]) == (sent["MessageId"], "poison", value)
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn(work)
    if fifo:
        assert message["Attributes"]["MessageGroupId"] == "g"
    sqs().change_message_visibility(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)

    assert sqs().list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [work]
    assert sqs().start_message_move_task(SourceArn=arn(dead))["TaskHandle"]

    def task():
        (newest,) = sqs().list_message_move_tasks(SourceArn=arn(dead))["Results"]
        return newest if newest["Status"] == "COMPLETED" else None

    done = eventually("the task is completed", task)
    assert done["ApproximateNumberOfMessagesMoved"] == 1 and done["SourceArn"] == arn(dead) and "TaskHandle" not in done
    (message,) = take(work, 1)
    assert (message["Body"], message["MessageAttributes"]) == ("poison", value)
    delete(work, message)
    assert counts(dead) == counts(work) == (0, 0, 0)


@shows("a move task with a rate runs, is listed with its handle, and is cancelled")
def test_a_move_task_is_cancelled():
    dead, target = new_queue("dead"), new_queue("target")
    new_queue("work", RedrivePolicy={"deadLetterTargetArn": arn(dead), "maxReceiveCount": 1})
    for start in range(0, 50, 10):
        sqs().send_message_batch(QueueUrl=dead, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)])
    task = sqs().start_message_move_task(SourceArn=arn(dead), DestinationArn=arn(target), MaxNumberOfMessagesPerSecond=1)
    (running,) = sqs().list_message_move_tasks(SourceArn=arn(dead))["Results"]
    assert running["Status"] == "RUNNING" and running["TaskHandle"] == task["TaskHandle"]
    assert running["DestinationArn"] == arn(target) and running["MaxNumberOfMessagesPerSecond"] == 1
    with pytest.raises(sqs().exceptions.ClientError) as refused:
        sqs().start_message_move_task(SourceArn=arn(dead), DestinationArn=arn(target))
    assert refused.value.response["Error"]["Message"] == (
        "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
    )
    moved = sqs().cancel_message_move_task(TaskHandle=task["TaskHandle"])["ApproximateNumberOfMessagesMoved"]

    def cancelled():
        return sqs().list_message_move_tasks(SourceArn=arn(dead))["Results"][0]["Status"] == "CANCELLED"

    eventually("the task is cancelled", cancelled)
    assert moved < 50
    assert counts(dead)[0] + counts(target)[0] == 50
    assert int(attributes(target)["ApproximateNumberOfMessages"]) >= moved


@shows("a dead-letter queue says whose dead letters it takes")
def test_who_may_dead_letter_here():
    closed = new_queue("closed", RedriveAllowPolicy={"redrivePermission": "denyAll"})
    with pytest.raises(sqs().exceptions.ClientError) as refused:
        new_queue("work", RedrivePolicy={"deadLetterTargetArn": arn(closed), "maxReceiveCount": 1})
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValue"
    friend = new_queue("friend")
    choosy = new_queue("choosy", RedriveAllowPolicy={"redrivePermission": "byQueue", "sourceQueueArns": [arn(friend)]})
    policy = f'{{"deadLetterTargetArn": "{arn(choosy)}", "maxReceiveCount": 3}}'
    sqs().set_queue_attributes(QueueUrl=friend, Attributes={"RedrivePolicy": policy})
    assert sqs().list_dead_letter_source_queues(QueueUrl=choosy)["queueUrls"] == [friend]

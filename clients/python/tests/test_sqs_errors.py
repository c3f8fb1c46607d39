"""Which error boto3 raises for what, with AWS's codes and texts, over JSON and over Query."""

import pytest

from kit import unique
from sqskit import PROTOCOL, arn, client, new_queue, sqs, take

GONE = "The specified queue does not exist" + ("." if PROTOCOL == "json" else " for this wsdl version.")
INVALID = "InvalidParameterValue"


def shows(capability):
    return pytest.mark.shows("boto3", capability, protocol="SQS")


def refusal(operation: str, **parameters) -> tuple:
    """Code, text and status of the error that `operation` ends with."""
    with pytest.raises(sqs().exceptions.ClientError) as raised:
        getattr(sqs(), operation)(**parameters)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["RequestId"]
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


def missing() -> str:
    return new_queue().rsplit("/", 1)[0] + "/" + unique("missing")


@pytest.mark.parametrize(
    "operation, parameters",
    [
        ("send_message", {"MessageBody": "x"}),
        ("receive_message", {}),
        ("receive_message", {"WaitTimeSeconds": 20}),
        ("delete_message", {"ReceiptHandle": "x"}),
        ("purge_queue", {}),
        ("delete_queue", {}),
        ("get_queue_attributes", {"AttributeNames": ["All"]}),
        ("set_queue_attributes", {"Attributes": {"VisibilityTimeout": "1"}}),
        ("list_queue_tags", {}),
        ("tag_queue", {"Tags": {"a": "b"}}),
        ("change_message_visibility", {"ReceiptHandle": "x", "VisibilityTimeout": 1}),
        ("send_message_batch", {"Entries": [{"Id": "a", "MessageBody": "x"}]}),
    ],
)
@shows("a queue that does not exist is NonExistentQueue to every operation")
def test_a_queue_that_does_not_exist(operation, parameters):
    code, text, status = refusal(operation, QueueUrl=missing(), **parameters)
    assert (code, text, status) == ("AWS.SimpleQueueService.NonExistentQueue", GONE, 400)


@shows("the error of a missing queue is a class of its own, found by name too")
def test_a_missing_queue_has_an_exception_of_its_own():
    with pytest.raises(sqs().exceptions.QueueDoesNotExist):
        sqs().get_queue_url(QueueName=unique("missing"))
    code, text, status = refusal("get_queue_url", QueueName=unique("missing"))
    assert (code, text, status) == ("AWS.SimpleQueueService.NonExistentQueue", GONE, 400)


def send(**parameters):
    return "send_message", {"MessageBody": "x", **parameters}


def attribute(name, **value):
    return send(MessageAttributes={name: {"DataType": "String", "StringValue": "v", **value}})


def entries(*items):
    return "send_message_batch", {"Entries": [{"MessageBody": "x", **item} for item in items]}


ON_A_STANDARD_QUEUE = {
    "too many asked for": (
        ("receive_message", {"MaxNumberOfMessages": 11}), INVALID,
        "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
    ),
    "none asked for": (
        ("receive_message", {"MaxNumberOfMessages": 0}), INVALID,
        "Value 0 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
    ),
    "too long a wait": (
        ("receive_message", {"WaitTimeSeconds": 21}), INVALID,
        "Value 21 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.",
    ),
    "an empty body": (send(MessageBody=""), "MissingParameter", "The request must contain the parameter MessageBody."),
    "a control character": (send(MessageBody="a\x01b"), "InvalidMessageContents", None),
    "too large a body": (
        send(MessageBody="x" * 1_048_577), INVALID,
        "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
    ),
    "too long a delay": (send(DelaySeconds=901), INVALID, None),
    "an empty attribute": (
        attribute("ErrorDetails", StringValue=""), INVALID,
        "Message (user) attribute 'ErrorDetails' must contain a non-empty value of type 'String'.",
    ),
    "a reserved attribute name": (attribute("AWS.x"), INVALID, None),
    "a bad attribute type": (attribute("x", DataType="Text"), INVALID, None),
    "a number that is none": (attribute("x", DataType="Number", StringValue="one"), INVALID, None),
    "eleven attributes": (
        send(MessageAttributes={f"a{n}": {"DataType": "String", "StringValue": "v"} for n in range(11)}), INVALID, None,
    ),
    "a group of spaces": (
        send(MessageGroupId="group 123"), INVALID,
        "Value group 123 for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include "
        "alphanumeric and punctuation characters. 1 to 128 in length.",
    ),
    "an empty batch": (("send_message_batch", {"Entries": []}), "AWS.SimpleQueueService.EmptyBatchRequest", None),
    "eleven entries": (
        entries(*({"Id": f"e{n}"} for n in range(11))), "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "Maximum number of entries per request are 10. You have sent 11.",
    ),
    "an id twice": (entries({"Id": "a"}, {"Id": "a"}), "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id a repeated."),
    "a bad id": (
        entries({"Id": "a.b"}), "AWS.SimpleQueueService.InvalidBatchEntryId",
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
    ),
    "too large a batch": (
        entries({"Id": "a", "MessageBody": "x" * 600_000}, {"Id": "b", "MessageBody": "x" * 448_577}),
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
    ),
    "a garbled receipt handle": (
        ("delete_message", {"ReceiptHandle": "garbage"}), "ReceiptHandleIsInvalid", "The input receipt handle is invalid.",
    ),
    "an unknown attribute": (("get_queue_attributes", {"AttributeNames": ["Wingspan"]}), "InvalidAttributeName", "Unknown Attribute Wingspan."),
    "a value out of range": (
        ("set_queue_attributes", {"Attributes": {"VisibilityTimeout": "43201"}}), "InvalidAttributeValue",
        "Invalid value for the parameter VisibilityTimeout.",
    ),
    "another type": (("set_queue_attributes", {"Attributes": {"FifoQueue": "true"}}), "InvalidAttributeName", "Unknown Attribute FifoQueue."),
    "an unknown label": (
        ("remove_permission", {"Label": "absent"}), INVALID,
        "Value absent for parameter Label is invalid. Reason: can't find label.",
    ),
}


@pytest.mark.parametrize("what", ON_A_STANDARD_QUEUE)
@shows("what a standard queue refuses has AWS's code and text")
def test_what_a_standard_queue_refuses(what):
    (operation, parameters), code, text = ON_A_STANDARD_QUEUE[what]
    got = refusal(operation, QueueUrl=new_queue(), **parameters)
    assert (got[0], got[2]) == (code, 400), got
    assert text is None or got[1] == text


ON_A_FIFO_QUEUE = {
    "no group": (send(MessageDeduplicationId="d"), "MissingParameter", "The request must contain the parameter MessageGroupId."),
    "nothing to tell repeats by": (
        send(MessageGroupId="g"), INVALID,
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
    ),
    "a bad deduplication id": (
        send(MessageGroupId="g", MessageDeduplicationId="d d"), INVALID,
        "Value d d for parameter MessageDeduplicationId is invalid. Reason: MessageDeduplicationId can only include "
        "alphanumeric and punctuation characters. 1 to 128 in length.",
    ),
    "a delay of its own": (
        send(MessageGroupId="g", MessageDeduplicationId="d", DelaySeconds=2), INVALID,
        "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.",
    ),
    "the standard type": (
        ("set_queue_attributes", {"Attributes": {"FifoQueue": "false"}}), "InvalidAttributeValue",
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
    ),
}


@pytest.mark.parametrize("what", ON_A_FIFO_QUEUE)
@shows("what a FIFO queue refuses has AWS's code and text")
def test_what_a_fifo_queue_refuses(what):
    (operation, parameters), code, text = ON_A_FIFO_QUEUE[what]
    assert refusal(operation, QueueUrl=new_queue(fifo=True), **parameters) == (code, text, 400)


@pytest.mark.parametrize("name, attributes", [
    ("bad name!", {}), ("x" * 81, {}), ("plain", {"FifoQueue": "true"}), ("named.fifo", {}),
], ids=["characters", "length", "fifo without its suffix", "the suffix without fifo"])
@shows("a bad queue name is refused")
def test_a_bad_queue_name_is_refused(name, attributes):
    code, _, status = refusal("create_queue", QueueName=name, Attributes=attributes)
    assert (code, status) == (INVALID, 400)


@shows("FIFO attributes are refused on a standard queue")
def test_fifo_attributes_are_refused_on_a_standard_queue():
    code, text, _ = refusal("create_queue", QueueName=unique("standard"), Attributes={"ContentBasedDeduplication": "false"})
    assert (code, text) == ("InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication.")
    code, text, _ = refusal("create_queue", QueueName=unique("standard"), Attributes={"DeduplicationScope": "queue"})
    assert (code, text) == ("InvalidAttributeName", "You can specify the DeduplicationScope only when FifoQueue is set to true.")


@shows("the visibility of a message that came back is left as it is, and that of a deleted one cannot be changed")
def test_visibility_of_what_is_not_in_flight():
    queue = new_queue()
    sqs().send_message(QueueUrl=queue, MessageBody="x")
    (message,) = take(queue, 1)
    change = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
    assert refusal("change_message_visibility", VisibilityTimeout=43_201, **change)[0] == INVALID
    sqs().change_message_visibility(VisibilityTimeout=0, **change)
    # Seen on AWS: it says that all is well, and the message stays visible.
    sqs().change_message_visibility(VisibilityTimeout=600, **change)
    (again,) = take(queue, 1)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    sqs().delete_message(**change)
    handle = message["ReceiptHandle"]
    assert refusal("change_message_visibility", VisibilityTimeout=1, **change)[:2] == (
        INVALID,
        f"Value {handle} for parameter ReceiptHandle is invalid. "
        "Reason: Message does not exist or is not available for visibility timeout change.",
    )


@shows("a receipt handle of another queue is refused")
def test_a_receipt_handle_of_another_queue():
    queue = new_queue()
    sqs().send_message(QueueUrl=queue, MessageBody="x")
    (message,) = take(queue, 1)
    code, _, _ = refusal("delete_message", QueueUrl=new_queue(), ReceiptHandle=message["ReceiptHandle"])
    assert code == "ReceiptHandleIsInvalid"


@shows("move tasks are refused without a dead-letter queue, a target or a task")
def test_what_a_move_task_needs():
    plain, dead = new_queue(), new_queue("dead")
    new_queue(RedrivePolicy={"deadLetterTargetArn": arn(dead), "maxReceiveCount": 1})
    assert refusal("start_message_move_task", SourceArn=arn(plain)) == (
        INVALID, "Source queue must be configured as a Dead Letter Queue.", 400
    )
    absent = arn(plain) + "-absent"
    assert refusal("start_message_move_task", SourceArn=absent) == (
        "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist.", 404
    )
    assert refusal("start_message_move_task", SourceArn=arn(dead), DestinationArn=absent) == (
        "ResourceNotFoundException", "The resource that you specified for the DestinationArn parameter doesn't exist.", 404
    )
    assert refusal("cancel_message_move_task", TaskHandle="garbage")[:2] == (
        INVALID, "Value for parameter TaskHandle is invalid."
    )


@shows("an operation that does not exist is refused in the caller's protocol")
def test_an_operation_that_does_not_exist():
    own = client()
    own.meta.service_model.operation_model("ListQueues").name = "FoldQueues"
    with pytest.raises(own.exceptions.ClientError) as raised:
        own.list_queues()
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)
    assert answer["Error"]["Code"] in ("UnknownOperationException", "InvalidAction"), answer

//! Messages one at a time: send, receive, delete, change of visibility.

use super::{Blob, NamedValues, Pairs, Text};
use crate::codec::{input, output};

input! {
    /// The value of a message attribute, as it is sent.
    AttributeValueInput {
        /// Kind of the value: `String`, `Number` or `Binary`, perhaps with a label behind a dot.
        data_type: Text<'a> = "DataType",
        /// The value of a `String` or a `Number`.
        string_value: Option<Text<'a>> = "StringValue",
        /// The value of a `Binary`.
        binary_value: Option<Blob> = "BinaryValue",
        /// Not implemented by AWS; refused by the operation when there is something in it.
        string_list_values: Vec<Text<'a>> = "StringListValues" / "StringListValue",
        /// Not implemented by AWS; refused by the operation when there is something in it.
        binary_list_values: Vec<Blob> = "BinaryListValues" / "BinaryListValue",
    }
}

/// The attributes of a message that is sent.
pub type MessageAttributesInput<'a> = Pairs<'a, AttributeValueInput<'a>>;

input! {
    /// Sends a message.
    SendMessageInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// What is sent.
        message_body: Text<'a> = "MessageBody",
        /// Seconds until it can be received; absent: the queue's own.
        delay_seconds: Option<i32> = "DelaySeconds",
        /// Attributes of the sender.
        message_attributes: MessageAttributesInput<'a> = "MessageAttributes" / "MessageAttribute",
        /// Attributes that AWS gives a meaning.
        message_system_attributes: MessageAttributesInput<'a> =
            "MessageSystemAttributes" / "MessageSystemAttribute",
        /// Of FIFO queues.
        message_deduplication_id: Option<Text<'a>> = "MessageDeduplicationId",
        /// Of FIFO queues, and of fair standard ones.
        message_group_id: Option<Text<'a>> = "MessageGroupId",
    }
}

output! {
    /// A message was sent.
    SendMessageOutput {
        /// Of the body, in hexadecimal.
        md5_of_message_body: String = "MD5OfMessageBody",
        /// Of the attributes, when there are any.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes",
        /// Of the system attributes, when there are any.
        md5_of_message_system_attributes: Option<String> = "MD5OfMessageSystemAttributes",
        /// Its id.
        message_id: String = "MessageId",
        /// Of FIFO queues.
        sequence_number: Option<String> = "SequenceNumber",
    }
}

input! {
    /// Receives messages.
    ReceiveMessageInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// System attributes that are asked for, under their former name.
        attribute_names: Vec<Text<'a>> = "AttributeNames" / "AttributeName",
        /// System attributes that are asked for.
        message_system_attribute_names: Vec<Text<'a>> =
            "MessageSystemAttributeNames" / "MessageSystemAttributeName",
        /// Attributes of the sender that are asked for.
        message_attribute_names: Vec<Text<'a>> = "MessageAttributeNames" / "MessageAttributeName",
        /// 1 to 10; absent: 1.
        max_number_of_messages: Option<i32> = "MaxNumberOfMessages",
        /// Seconds that they are hidden from others; absent: the queue's own.
        visibility_timeout: Option<i32> = "VisibilityTimeout",
        /// Seconds to wait for the first; absent: the queue's own.
        wait_time_seconds: Option<i32> = "WaitTimeSeconds",
        /// Of FIFO queues: the same id receives the same messages.
        receive_request_attempt_id: Option<Text<'a>> = "ReceiveRequestAttemptId",
    }
}

output! {
    /// The value of a message attribute, as it is received.
    AttributeValueOutput {
        /// The value of a `String` or a `Number`.
        string_value: Option<String> = "StringValue",
        /// The value of a `Binary`.
        binary_value: Option<Blob> = "BinaryValue",
        /// Kind of the value.
        data_type: String = "DataType",
    }
}

output! {
    /// A received message.
    Message {
        /// Its id.
        message_id: String = "MessageId",
        /// What deletes it.
        receipt_handle: String = "ReceiptHandle",
        /// Of the body, in hexadecimal.
        md5_of_body: String = "MD5OfBody",
        /// What was sent.
        body: String = "Body",
        /// The system attributes that were asked for.
        attributes: NamedValues<&'static str, String> = "Attributes" / "Attribute",
        /// Of the attributes that were asked for and are there.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes",
        /// The sender's attributes that were asked for and are there.
        message_attributes: NamedValues<String, AttributeValueOutput> = "MessageAttributes" / "MessageAttribute",
    }
}

output! {
    /// What was there.
    ReceiveMessageOutput {
        /// Left out when there was nothing.
        messages: Vec<Message> = "Messages" / "Message",
    }
}

input! {
    /// Deletes a message.
    DeleteMessageInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Of its last receive.
        receipt_handle: Text<'a> = "ReceiptHandle",
    }
}

input! {
    /// Changes how long a message is hidden, from now on.
    ChangeMessageVisibilityInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Of its last receive.
        receipt_handle: Text<'a> = "ReceiptHandle",
        /// Seconds.
        visibility_timeout: i32 = "VisibilityTimeout",
    }
}

//! Up to ten messages at a time.

use super::{Listed, MessageAttributesInput, Text};
use crate::codec::{input, output};

output! {
    /// An entry that failed.
    BatchResultErrorEntry {
        /// The entry's id.
        id: String = "Id",
        /// Whether the client must change it.
        sender_fault: bool = "SenderFault",
        /// Code of the error, as a single request would have been told.
        code: String = "Code",
        /// Its text.
        message: Option<String> = "Message",
    }
}

impl BatchResultErrorEntry {
    /// The entry `id` failed with `error`.
    pub fn of(id: impl Into<String>, error: &crate::AwsError) -> Self {
        BatchResultErrorEntry {
            id: id.into(),
            sender_fault: error.fault == crate::Fault::Sender,
            code: error.code.to_owned(),
            message: Some(error.message.clone().into_owned()),
        }
    }
}

input! {
    /// One message of a batch.
    SendMessageBatchRequestEntry {
        /// The entry's id.
        id: Text<'a> = "Id",
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

input! {
    /// Sends up to ten messages.
    SendMessageBatchInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// The messages.
        entries: Vec<SendMessageBatchRequestEntry<'a>> = "Entries" / "SendMessageBatchRequestEntry",
    }
}

output! {
    /// A message of a batch was sent.
    SendMessageBatchResultEntry {
        /// The entry's id.
        id: String = "Id",
        /// Its id.
        message_id: String = "MessageId",
        /// Of the body, in hexadecimal.
        md5_of_message_body: String = "MD5OfMessageBody",
        /// Of the attributes, when there are any.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes",
        /// Of the system attributes, when there are any.
        md5_of_message_system_attributes: Option<String> = "MD5OfMessageSystemAttributes",
        /// Of FIFO queues.
        sequence_number: Option<String> = "SequenceNumber",
    }
}

output! {
    /// What came of each entry.
    SendMessageBatchOutput {
        /// Those that were sent.
        successful: Listed<SendMessageBatchResultEntry> = "Successful" / "SendMessageBatchResultEntry",
        /// The others.
        failed: Listed<BatchResultErrorEntry> = "Failed" / "BatchResultErrorEntry",
    }
}

input! {
    /// One message of a batch.
    DeleteMessageBatchRequestEntry {
        /// The entry's id.
        id: Text<'a> = "Id",
        /// Of its last receive.
        receipt_handle: Text<'a> = "ReceiptHandle",
    }
}

input! {
    /// Deletes up to ten messages.
    DeleteMessageBatchInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// The messages.
        entries: Vec<DeleteMessageBatchRequestEntry<'a>> = "Entries" / "DeleteMessageBatchRequestEntry",
    }
}

output! {
    /// A message of a batch was deleted.
    DeleteMessageBatchResultEntry {
        /// The entry's id.
        id: String = "Id",
    }
}

output! {
    /// What came of each entry.
    DeleteMessageBatchOutput {
        /// Those that were deleted.
        successful: Listed<DeleteMessageBatchResultEntry> = "Successful" / "DeleteMessageBatchResultEntry",
        /// The others.
        failed: Listed<BatchResultErrorEntry> = "Failed" / "BatchResultErrorEntry",
    }
}

input! {
    /// One message of a batch.
    ChangeMessageVisibilityBatchRequestEntry {
        /// The entry's id.
        id: Text<'a> = "Id",
        /// Of its last receive.
        receipt_handle: Text<'a> = "ReceiptHandle",
        /// Seconds.
        visibility_timeout: Option<i32> = "VisibilityTimeout",
    }
}

input! {
    /// Changes how long up to ten messages are hidden.
    ChangeMessageVisibilityBatchInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// The messages.
        entries: Vec<ChangeMessageVisibilityBatchRequestEntry<'a>> =
            "Entries" / "ChangeMessageVisibilityBatchRequestEntry",
    }
}

output! {
    /// The visibility of a message of a batch was changed.
    ChangeMessageVisibilityBatchResultEntry {
        /// The entry's id.
        id: String = "Id",
    }
}

output! {
    /// What came of each entry.
    ChangeMessageVisibilityBatchOutput {
        /// Those that were changed.
        successful: Listed<ChangeMessageVisibilityBatchResultEntry> =
            "Successful" / "ChangeMessageVisibilityBatchResultEntry",
        /// The others.
        failed: Listed<BatchResultErrorEntry> = "Failed" / "BatchResultErrorEntry",
    }
}

//! Dead-letter queues and moving their messages back.

use super::Text;
use crate::codec::{input, output};

input! {
    /// Asks which queues send their dead letters to a queue.
    ListDeadLetterSourceQueuesInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Where the previous page ended.
        next_token: Option<Text<'a>> = "NextToken",
        /// 1 to 1000 in one page.
        max_results: Option<i32> = "MaxResults",
    }
}

output! {
    /// One page of queues. Its name begins in lower case in JSON, as AWS's does.
    ListDeadLetterSourceQueuesOutput {
        /// Their URLs.
        queue_urls: super::Listed<String> = "queueUrls" / "QueueUrl",
        /// Where the next page begins.
        next_token: Option<String> = "NextToken",
    }
}

input! {
    /// Starts moving messages out of a dead-letter queue.
    StartMessageMoveTaskInput {
        /// ARN of the dead-letter queue.
        source_arn: Text<'a> = "SourceArn",
        /// ARN of the queue that they go to; absent: each to where it came from.
        destination_arn: Option<Text<'a>> = "DestinationArn",
        /// At most 500; absent: as many as can be.
        max_number_of_messages_per_second: Option<i32> = "MaxNumberOfMessagesPerSecond",
    }
}

output! {
    /// The move began.
    StartMessageMoveTaskOutput {
        /// What cancels it.
        task_handle: String = "TaskHandle",
    }
}

input! {
    /// Asks for the moves out of a queue.
    ListMessageMoveTasksInput {
        /// ARN of the queue.
        source_arn: Text<'a> = "SourceArn",
        /// 1 to 10; absent: 1.
        max_results: Option<i32> = "MaxResults",
    }
}

output! {
    /// One move.
    ListMessageMoveTasksResultEntry {
        /// What cancels it; absent unless it is running.
        task_handle: Option<String> = "TaskHandle",
        /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
        status: String = "Status",
        /// ARN of the queue that messages come from.
        source_arn: String = "SourceArn",
        /// ARN of the queue that they go to, if one was named.
        destination_arn: Option<String> = "DestinationArn",
        /// As it was asked for.
        max_number_of_messages_per_second: Option<i32> = "MaxNumberOfMessagesPerSecond",
        /// So far.
        approximate_number_of_messages_moved: i64 = "ApproximateNumberOfMessagesMoved",
        /// When it began.
        approximate_number_of_messages_to_move: Option<i64> = "ApproximateNumberOfMessagesToMove",
        /// Of one that failed.
        failure_reason: Option<String> = "FailureReason",
        /// Milliseconds since the Unix epoch.
        started_timestamp: i64 = "StartedTimestamp",
    }
}

output! {
    /// The newest moves.
    ListMessageMoveTasksOutput {
        /// Newest first.
        results: super::Listed<ListMessageMoveTasksResultEntry> = "Results" / "ListMessageMoveTasksResultEntry",
    }
}

input! {
    /// Cancels a move.
    CancelMessageMoveTaskInput {
        /// Of its start.
        task_handle: Text<'a> = "TaskHandle",
    }
}

output! {
    /// The move ends.
    CancelMessageMoveTaskOutput {
        /// Messages that were moved; they stay where they are.
        approximate_number_of_messages_moved: i64 = "ApproximateNumberOfMessagesMoved",
    }
}

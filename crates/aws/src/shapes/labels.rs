//! Tags and permissions.

use super::{KeyedValues, Pairs, Text};
use crate::codec::{input, output};

input! {
    /// Adds tags to a queue.
    TagQueueInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// The tags.
        tags: Pairs<'a, Text<'a>> = "Tags" / "Tag",
    }
}

input! {
    /// Takes tags away.
    UntagQueueInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Their keys.
        tag_keys: Vec<Text<'a>> = "TagKeys" / "TagKey",
    }
}

input! {
    /// Asks for the tags of a queue.
    ListQueueTagsInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
    }
}

output! {
    /// The tags of a queue.
    ListQueueTagsOutput {
        /// By key.
        tags: KeyedValues<String, String> = "Tags" / "Tag",
    }
}

input! {
    /// Adds a statement to a queue's policy.
    AddPermissionInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Id of the statement.
        label: Text<'a> = "Label",
        /// Who may.
        aws_account_ids: Vec<Text<'a>> = "AWSAccountIds" / "AWSAccountId",
        /// What.
        actions: Vec<Text<'a>> = "Actions" / "ActionName",
    }
}

input! {
    /// Takes a statement out of a queue's policy.
    RemovePermissionInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Id of the statement.
        label: Text<'a> = "Label",
    }
}

//! Queues and their attributes.

use super::{NamedValues, Pairs, Text};
use crate::codec::{input, output};

input! {
    /// Makes a queue.
    CreateQueueInput {
        /// Its name.
        queue_name: Text<'a> = "QueueName",
        /// Its attributes; those that are absent have their defaults.
        attributes: Pairs<'a, Text<'a>> = "Attributes" / "Attribute",
        /// Its tags.
        tags: Pairs<'a, Text<'a>> = "tags" / "Tag",
    }
}

output! {
    /// The queue is there.
    CreateQueueOutput {
        /// Its URL.
        queue_url: String = "QueueUrl",
    }
}

input! {
    /// Asks for a queue's URL.
    GetQueueUrlInput {
        /// Its name.
        queue_name: Text<'a> = "QueueName",
        /// Account of its owner; absent: the caller's.
        queue_owner_aws_account_id: Option<Text<'a>> = "QueueOwnerAWSAccountId",
    }
}

output! {
    /// The queue is there.
    GetQueueUrlOutput {
        /// Its URL.
        queue_url: String = "QueueUrl",
    }
}

input! {
    /// Lists the caller's queues.
    ListQueuesInput {
        /// How their names begin.
        queue_name_prefix: Option<Text<'a>> = "QueueNamePrefix",
        /// Where the previous page ended.
        next_token: Option<Text<'a>> = "NextToken",
        /// 1 to 1000 in one page.
        max_results: Option<i32> = "MaxResults",
    }
}

output! {
    /// One page of queues.
    ListQueuesOutput {
        /// Their URLs.
        queue_urls: Vec<String> = "QueueUrls" / "QueueUrl",
        /// Where the next page begins.
        next_token: Option<String> = "NextToken",
    }
}

input! {
    /// Deletes a queue with all its messages.
    DeleteQueueInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
    }
}

input! {
    /// Deletes all messages of a queue.
    PurgeQueueInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
    }
}

input! {
    /// Asks for attributes of a queue.
    GetQueueAttributesInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// Which; `All` for all.
        attribute_names: Vec<Text<'a>> = "AttributeNames" / "AttributeName",
    }
}

output! {
    /// Attributes of a queue.
    GetQueueAttributesOutput {
        /// Those that were asked for and are set.
        attributes: NamedValues<&'static str, String> = "Attributes" / "Attribute",
    }
}

input! {
    /// Changes attributes of a queue.
    SetQueueAttributesInput {
        /// The queue.
        queue_url: Text<'a> = "QueueUrl",
        /// The new values.
        attributes: Pairs<'a, Text<'a>> = "Attributes" / "Attribute",
    }
}

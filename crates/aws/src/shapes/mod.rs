//! What the operations of SQS are given and what they answer: the names and kinds of its model, version 2012-11-05.
//!
//! A parameter that must be there is a plain value, and is asked for before the operation is called; one that may be
//! absent is an `Option`, and a list or a map that is absent is empty. What values may be is for the operation to say.

mod batches;
mod dead_letters;
mod labels;
mod messages;
mod queues;

use std::borrow::Cow;

pub use batches::*;
pub use dead_letters::*;
pub use labels::*;
pub use messages::*;
pub use queues::*;

pub use crate::codec::{
    decode::{Blob, Pairs},
    encode::{KeyedValues, Listed, NamedValues},
};
use crate::{
    AwsError,
    codec::{
        Node, Wire,
        decode::{At, Decode},
        encode::{Encode, Structure},
    },
};

/// Text of a request, borrowed from its bytes where nothing in it was escaped.
pub type Text<'a> = Cow<'a, str>;

macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident,)*) => {
        /// The operations.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // Their names are AWS's.
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Operation] = &[$(Operation::$name),*];

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Operation::$name => stringify!($name),)*
                }
            }

            /// The operation of that name.
            pub fn parse(name: &str) -> Option<Operation> {
                match name {
                    $(stringify!($name) => Some(Operation::$name),)*
                    _ => None,
                }
            }
        }

        /// An operation with what it is given.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Input<'a> {
            $($name($input<'a>),)*
        }

        impl<'a> Input<'a> {
            pub(crate) fn decode(
                operation: Operation,
                node: Node<'a>,
                wire: Wire,
            ) -> Result<Input<'a>, AwsError> {
                let at = At::top(wire);
                match operation {
                    $(Operation::$name => $input::decode(node, &at).map(Input::$name),)*
                }
            }
        }

        /// What an operation answers.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Output {
            $($name($output),)*
        }

        impl Output {
            /// The operation that answers this.
            pub fn operation(&self) -> Operation {
                match self {
                    $(Output::$name(_) => Operation::$name,)*
                }
            }

            /// Appends the body of a JSON answer; nothing where the operation has no output.
            pub(crate) fn json(&self, out: &mut Vec<u8>) {
                match self {
                    $(Output::$name(output) => output.json(out),)*
                }
            }

            /// Appends the result's members as XML; `false`, and nothing, where the operation has no output.
            pub(crate) fn xml_members(&self, out: &mut Vec<u8>) -> bool {
                match self {
                    $(Output::$name(output) => {
                        output.xml_members(out);
                        $output::IS_RESULT
                    })*
                }
            }
        }
    };
}

impl Output {
    /// About the length of a JSON answer, bytes, so that what it is written to does not grow piece by piece.
    pub(crate) fn len_hint(&self) -> usize {
        /// What an answer or one of its entries has beside bodies and attributes.
        const ENTRY_LEN: usize = 320;
        match self {
            Output::ReceiveMessage(output) => output
                .messages
                .iter()
                .map(|message| message.body.len() + message.body.len() / 32 + ENTRY_LEN)
                .sum(),
            Output::SendMessageBatch(output) => {
                (output.successful.0.len() + output.failed.0.len()) * ENTRY_LEN
            }
            _ => ENTRY_LEN,
        }
    }
}

/// The output of an operation that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoOutput;

impl Encode for NoOutput {
    fn json(&self, _out: &mut Vec<u8>) {}

    fn xml(&self, _name: &str, _out: &mut Vec<u8>) {}
}

impl Structure for NoOutput {
    const IS_RESULT: bool = false;

    fn xml_members(&self, _out: &mut Vec<u8>) {}
}

operations! {
    AddPermission(AddPermissionInput) -> NoOutput,
    CancelMessageMoveTask(CancelMessageMoveTaskInput) -> CancelMessageMoveTaskOutput,
    ChangeMessageVisibility(ChangeMessageVisibilityInput) -> NoOutput,
    ChangeMessageVisibilityBatch(ChangeMessageVisibilityBatchInput) -> ChangeMessageVisibilityBatchOutput,
    CreateQueue(CreateQueueInput) -> CreateQueueOutput,
    DeleteMessage(DeleteMessageInput) -> NoOutput,
    DeleteMessageBatch(DeleteMessageBatchInput) -> DeleteMessageBatchOutput,
    DeleteQueue(DeleteQueueInput) -> NoOutput,
    GetQueueAttributes(GetQueueAttributesInput) -> GetQueueAttributesOutput,
    GetQueueUrl(GetQueueUrlInput) -> GetQueueUrlOutput,
    ListDeadLetterSourceQueues(ListDeadLetterSourceQueuesInput) -> ListDeadLetterSourceQueuesOutput,
    ListMessageMoveTasks(ListMessageMoveTasksInput) -> ListMessageMoveTasksOutput,
    ListQueueTags(ListQueueTagsInput) -> ListQueueTagsOutput,
    ListQueues(ListQueuesInput) -> ListQueuesOutput,
    PurgeQueue(PurgeQueueInput) -> NoOutput,
    ReceiveMessage(ReceiveMessageInput) -> ReceiveMessageOutput,
    RemovePermission(RemovePermissionInput) -> NoOutput,
    SendMessage(SendMessageInput) -> SendMessageOutput,
    SendMessageBatch(SendMessageBatchInput) -> SendMessageBatchOutput,
    SetQueueAttributes(SetQueueAttributesInput) -> NoOutput,
    StartMessageMoveTask(StartMessageMoveTaskInput) -> StartMessageMoveTaskOutput,
    TagQueue(TagQueueInput) -> NoOutput,
    UntagQueue(UntagQueueInput) -> NoOutput,
}

//! The one error of the dialect, and every code it has.

use std::borrow::Cow;

use hyper::StatusCode;
use model::ErrorKind;

use crate::codec::Wire;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client's: it must change the request.
    Sender,
    /// Ours: it may try again.
    Receiver,
}

impl Fault {
    /// As it is written in answers.
    pub fn text(self) -> &'static str {
        match self {
            Fault::Sender => "Sender",
            Fault::Receiver => "Receiver",
        }
    }
}

/// What an operation is refused with, in the words of both protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsError {
    /// Code of the Query protocol, and of the header `x-amzn-query-error`.
    pub code: &'static str,
    /// Name of the shape in JSON's `__type`, with its namespace.
    pub shape: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// Whose fault it is.
    pub fault: Fault,
    /// The text for people; clients compare it.
    pub message: Cow<'static, str>,
}

impl std::fmt::Display for AwsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for AwsError {}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $shape:literal, $status:ident, $fault:ident;)*) => {
        impl AwsError {
            $(
                $(#[$doc])*
                pub fn $name(message: impl Into<Cow<'static, str>>) -> AwsError {
                    AwsError {
                        code: $code,
                        shape: $shape,
                        status: StatusCode::$status,
                        fault: Fault::$fault,
                        message: message.into(),
                    }
                }
            )*
        }

        #[cfg(test)]
        const ALL: &[(fn(&'static str) -> AwsError, &str)] = &[$((|text| AwsError::$name(text), $code)),*];
    };
}

codes! {
    // Modelled by SQS.
    /// There is no such queue. See also [`AwsError::no_such_queue`], which has the text.
    queue_does_not_exist =
        "AWS.SimpleQueueService.NonExistentQueue", "com.amazonaws.sqs#QueueDoesNotExist", BAD_REQUEST, Sender;
    /// A queue of that name has other attributes.
    queue_name_exists = "QueueAlreadyExists", "com.amazonaws.sqs#QueueNameExists", BAD_REQUEST, Sender;
    /// A queue of that name was deleted less than a minute ago.
    queue_deleted_recently = "AWS.SimpleQueueService.QueueDeletedRecently",
        "com.amazonaws.sqs#QueueDeletedRecently", BAD_REQUEST, Sender;
    /// The queue was purged less than a minute ago.
    purge_queue_in_progress = "AWS.SimpleQueueService.PurgeQueueInProgress",
        "com.amazonaws.sqs#PurgeQueueInProgress", FORBIDDEN, Sender;
    /// A batch without entries.
    empty_batch_request = "AWS.SimpleQueueService.EmptyBatchRequest",
        "com.amazonaws.sqs#EmptyBatchRequest", BAD_REQUEST, Sender;
    /// A batch of more than ten entries.
    too_many_entries_in_batch_request = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "com.amazonaws.sqs#TooManyEntriesInBatchRequest", BAD_REQUEST, Sender;
    /// Two entries of a batch have one id.
    batch_entry_ids_not_distinct = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        "com.amazonaws.sqs#BatchEntryIdsNotDistinct", BAD_REQUEST, Sender;
    /// An entry's id has characters that it may not have.
    invalid_batch_entry_id = "AWS.SimpleQueueService.InvalidBatchEntryId",
        "com.amazonaws.sqs#InvalidBatchEntryId", BAD_REQUEST, Sender;
    /// All messages of a batch together are too long.
    batch_request_too_long = "AWS.SimpleQueueService.BatchRequestTooLong",
        "com.amazonaws.sqs#BatchRequestTooLong", BAD_REQUEST, Sender;
    /// The visibility of a message changes that nobody has.
    message_not_inflight = "AWS.SimpleQueueService.MessageNotInflight",
        "com.amazonaws.sqs#MessageNotInflight", BAD_REQUEST, Sender;
    /// An operation that this kind of queue does not have.
    unsupported_operation = "AWS.SimpleQueueService.UnsupportedOperation",
        "com.amazonaws.sqs#UnsupportedOperation", BAD_REQUEST, Sender;
    /// Too many messages in flight, too many permissions.
    over_limit = "OverLimit", "com.amazonaws.sqs#OverLimit", FORBIDDEN, Sender;
    /// A receipt handle that we did not give out, or not for this queue.
    receipt_handle_is_invalid =
        "ReceiptHandleIsInvalid", "com.amazonaws.sqs#ReceiptHandleIsInvalid", BAD_REQUEST, Sender;
    /// A receipt handle that does not belong to the version of the operation.
    invalid_id_format = "InvalidIdFormat", "com.amazonaws.sqs#InvalidIdFormat", BAD_REQUEST, Sender;
    /// An attribute that queues do not have.
    invalid_attribute_name =
        "InvalidAttributeName", "com.amazonaws.sqs#InvalidAttributeName", BAD_REQUEST, Sender;
    /// A value that the attribute may not have.
    invalid_attribute_value =
        "InvalidAttributeValue", "com.amazonaws.sqs#InvalidAttributeValue", BAD_REQUEST, Sender;
    /// A body with characters outside of XML's.
    invalid_message_contents =
        "InvalidMessageContents", "com.amazonaws.sqs#InvalidMessageContents", BAD_REQUEST, Sender;
    /// A queue URL that does not read.
    invalid_address = "InvalidAddress", "com.amazonaws.sqs#InvalidAddress", NOT_FOUND, Sender;
    /// The request is not made over a secure channel or signed as it must be.
    invalid_security = "InvalidSecurity", "com.amazonaws.sqs#InvalidSecurity", FORBIDDEN, Sender;
    /// Something that a move task names is not there.
    resource_not_found =
        "ResourceNotFoundException", "com.amazonaws.sqs#ResourceNotFoundException", NOT_FOUND, Sender;
    /// Too much at once.
    request_throttled = "RequestThrottled", "com.amazonaws.sqs#RequestThrottled", FORBIDDEN, Sender;
    // Not modelled, but answered by SQS.
    /// A parameter that may not be as it is.
    invalid_parameter_value =
        "InvalidParameterValue", "com.amazonaws.sqs#InvalidParameterValueException", BAD_REQUEST, Sender;
    /// A parameter that must be there; see [`AwsError::missing`], which has the text.
    missing_parameter =
        "MissingParameter", "com.amazonaws.sqs#MissingRequiredParameterException", BAD_REQUEST, Sender;
    // Common to all services.
    /// An operation that the service does not have.
    unknown_operation =
        "InvalidAction", "com.amazon.coral.service#UnknownOperationException", BAD_REQUEST, Sender;
    /// No operation is named.
    missing_action = "MissingAction", "com.amazon.coral.service#UnknownOperationException", BAD_REQUEST, Sender;
    /// A body that does not read as JSON, or whose values are of other kinds than the operation takes.
    serialization =
        "SerializationException", "com.amazon.coral.service#SerializationException", BAD_REQUEST, Sender;
    /// Form parameters that do not read.
    malformed_input =
        "MalformedInput", "com.amazon.coral.service#SerializationException", BAD_REQUEST, Sender;
    /// Form parameters whose escapes do not read.
    malformed_query_string = "MalformedQueryString",
        "com.amazon.coral.service#MalformedQueryStringException", NOT_FOUND, Sender;
    /// A body that is longer than any operation takes.
    request_too_long = "RequestEntityTooLarge",
        "com.amazon.coral.service#RequestEntityTooLargeException", PAYLOAD_TOO_LARGE, Sender;
    /// A request that took too long to arrive.
    request_timeout =
        "RequestTimeout", "com.amazon.coral.service#RequestTimeoutException", REQUEST_TIMEOUT, Sender;
    /// No signature where one is needed.
    missing_authentication_token = "MissingAuthenticationToken",
        "com.amazon.coral.service#MissingAuthenticationTokenException", FORBIDDEN, Sender;
    /// A signature that lacks parts, or whose parts do not read.
    incomplete_signature = "IncompleteSignature",
        "com.amazon.coral.service#IncompleteSignatureException", BAD_REQUEST, Sender;
    /// An access key that nobody has.
    invalid_client_token_id = "InvalidClientTokenId",
        "com.amazon.coral.service#UnrecognizedClientException", FORBIDDEN, Sender;
    /// A signature that is not the one of this request.
    signature_does_not_match = "SignatureDoesNotMatch",
        "com.amazon.coral.service#InvalidSignatureException", FORBIDDEN, Sender;
    /// A signature that was made too long ago, or for a time to come.
    request_expired =
        "RequestExpired", "com.amazon.coral.service#InvalidSignatureException", FORBIDDEN, Sender;
    /// The caller may not do this.
    access_denied = "AccessDenied", "com.amazon.coral.service#AccessDeniedException", FORBIDDEN, Sender;
    /// Ours.
    internal_failure =
        "InternalFailure", "com.amazon.coral.service#InternalFailure", INTERNAL_SERVER_ERROR, Receiver;
    /// Not now.
    service_unavailable = "ServiceUnavailable",
        "com.amazon.coral.service#ServiceUnavailableException", SERVICE_UNAVAILABLE, Receiver;
}

impl AwsError {
    /// The queue that a URL or a name says is not there.
    pub fn no_such_queue() -> AwsError {
        AwsError::queue_does_not_exist(NO_SUCH_QUEUE_JSON)
    }

    /// The parameter `name` must be there.
    pub fn missing(name: impl std::fmt::Display) -> AwsError {
        AwsError::missing_parameter(format!("The request must contain the parameter {name}."))
    }

    /// `value` is not one that `parameter` may have, for `reason` (a sentence).
    pub fn invalid_value(
        value: impl std::fmt::Display,
        parameter: impl std::fmt::Display,
        reason: impl std::fmt::Display,
    ) -> AwsError {
        AwsError::invalid_parameter_value(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
        ))
    }

    /// `action` is not there.
    pub fn unknown_action(action: &str) -> AwsError {
        AwsError::unknown_operation(format!("The action {action} is not valid for this endpoint."))
    }
}

/// What JSON says of a queue that is not there; the Query protocol has more words.
const NO_SUCH_QUEUE_JSON: &str = "The specified queue does not exist.";
const NO_SUCH_QUEUE: &str = "The specified queue does not exist for this wsdl version.";

impl AwsError {
    /// The text in the words of a protocol.
    pub(crate) fn text(&self, wire: Wire) -> &str {
        let is_no_such_queue = self.message == NO_SUCH_QUEUE_JSON;
        if is_no_such_queue && wire == Wire::Query { NO_SUCH_QUEUE } else { &self.message }
    }
}

/// What the broker refuses where the operation has no better word: the one place that maps its kinds to codes.
impl From<model::Error> for AwsError {
    fn from(error: model::Error) -> AwsError {
        let text = error.text().to_owned();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Closed => AwsError::no_such_queue(),
            ErrorKind::Exists => AwsError::queue_name_exists(text),
            ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::TooLate => {
                AwsError::invalid_parameter_value(text)
            }
            ErrorKind::Limit => AwsError::over_limit(text),
            ErrorKind::Unauthenticated => AwsError::invalid_client_token_id(text),
            ErrorKind::Denied => AwsError::access_denied(text),
            ErrorKind::Throttled => AwsError::request_throttled(text),
            ErrorKind::Fenced | ErrorKind::Unavailable | ErrorKind::Indeterminate => {
                AwsError::service_unavailable(text)
            }
            ErrorKind::Corrupt | ErrorKind::Internal => AwsError::internal_failure(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_agrees_with_whose_fault_it_is() {
        for (make, code) in ALL {
            let error = make("text");
            assert_eq!(error.code, *code);
            assert_eq!(error.message, "text");
            assert_eq!(error.fault == Fault::Receiver, error.status.is_server_error(), "{code}");
            assert!(error.shape.contains('#'), "{code}");
        }
    }

    #[test]
    fn every_kind_of_the_broker_has_its_code() {
        for (kind, code) in [
            (ErrorKind::NotFound, "AWS.SimpleQueueService.NonExistentQueue"),
            (ErrorKind::Closed, "AWS.SimpleQueueService.NonExistentQueue"),
            (ErrorKind::Exists, "QueueAlreadyExists"),
            (ErrorKind::Invalid, "InvalidParameterValue"),
            (ErrorKind::Conflict, "InvalidParameterValue"),
            (ErrorKind::TooLate, "InvalidParameterValue"),
            (ErrorKind::Limit, "OverLimit"),
            (ErrorKind::Unauthenticated, "InvalidClientTokenId"),
            (ErrorKind::Denied, "AccessDenied"),
            (ErrorKind::Throttled, "RequestThrottled"),
            (ErrorKind::Fenced, "ServiceUnavailable"),
            (ErrorKind::Unavailable, "ServiceUnavailable"),
            (ErrorKind::Indeterminate, "ServiceUnavailable"),
            (ErrorKind::Corrupt, "InternalFailure"),
            (ErrorKind::Internal, "InternalFailure"),
        ] {
            assert_eq!(AwsError::from(model::Error::new(kind, "why")).code, code, "{kind:?}");
        }
    }

    #[test]
    fn texts_are_the_ones_that_clients_compare() {
        assert_eq!(AwsError::missing("QueueUrl").message, "The request must contain the parameter QueueUrl.");
        assert_eq!(
            AwsError::invalid_value(
                "43201",
                "VisibilityTimeout",
                "Must be between 0 and 43200, if provided."
            )
            .message,
            "Value 43201 for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if \
             provided."
        );
    }
}

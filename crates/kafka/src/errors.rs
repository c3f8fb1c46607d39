//! The one place where refusals of the broker and of the groups become Kafka's error codes.

use broker::RefusalReason;
use model::ErrorKind;

use crate::{codec::ErrorCode, group::Refusal};

/// The code for an error of the broker.
pub(crate) fn of_kind(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::NotFound => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorKind::Exists => ErrorCode::TOPIC_ALREADY_EXISTS,
        ErrorKind::Invalid => ErrorCode::INVALID_REQUEST,
        ErrorKind::Limit => ErrorCode::POLICY_VIOLATION,
        ErrorKind::Unauthenticated => ErrorCode::SASL_AUTHENTICATION_FAILED,
        ErrorKind::Denied => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorKind::Conflict => ErrorCode::INVALID_REQUEST,
        ErrorKind::Fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorKind::Throttled => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        // Clients try both again by themselves; the first says that nothing was stored.
        ErrorKind::Unavailable => ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorKind::Indeterminate | ErrorKind::TooLate => ErrorCode::REQUEST_TIMED_OUT,
        ErrorKind::Closed => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorKind::Corrupt => ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorKind::Internal => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// The code for an error of the broker.
pub(crate) fn of(error: &model::Error) -> ErrorCode {
    of_kind(error.kind())
}

/// The code for an append that was refused.
pub(crate) fn of_refused_append(reason: RefusalReason) -> ErrorCode {
    match reason {
        RefusalReason::SequenceGap | RefusalReason::SequenceStale => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        RefusalReason::ProducerFenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        RefusalReason::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        RefusalReason::Full => ErrorCode::POLICY_VIOLATION,
        RefusalReason::Closed => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        RefusalReason::ConditionFailed | RefusalReason::Invalid => ErrorCode::INVALID_RECORD,
        RefusalReason::OthersRefused => ErrorCode::INVALID_RECORD,
    }
}

/// The code for a request that a group refused.
pub(crate) fn of_group(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        Refusal::NoSuchGroup => ErrorCode::GROUP_ID_NOT_FOUND,
        Refusal::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        Refusal::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        Refusal::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        Refusal::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        Refusal::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        Refusal::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        Refusal::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        Refusal::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        Refusal::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_the_broker_but_a_bug_of_it_is_unknown_to_clients() {
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::Exists,
            ErrorKind::Invalid,
            ErrorKind::Limit,
            ErrorKind::Unauthenticated,
            ErrorKind::Denied,
            ErrorKind::Conflict,
            ErrorKind::Fenced,
            ErrorKind::Throttled,
            ErrorKind::Unavailable,
            ErrorKind::Indeterminate,
            ErrorKind::TooLate,
            ErrorKind::Closed,
            ErrorKind::Corrupt,
        ] {
            assert_ne!(of_kind(kind), ErrorCode::UNKNOWN_SERVER_ERROR, "{kind:?}");
        }
    }
}

//! What holds of the entries of every batch.

use super::validate::is_entry_id;
use crate::AwsError;

/// Entries of one batch.
const ENTRIES_MAX: usize = 10;

/// Checks the ids of a batch, of whose entries AWS speaks as `entry`.
pub(super) fn check<'a>(
    entry: &str,
    ids: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<(), AwsError> {
    let count = ids.len();
    if count == 0 {
        return Err(AwsError::empty_batch_request(format!(
            "There should be at least one {entry} in the request."
        )));
    }
    if count > ENTRIES_MAX {
        return Err(AwsError::too_many_entries_in_batch_request(format!(
            "Maximum number of entries per request are {ENTRIES_MAX}. You have sent {count}."
        )));
    }
    if !ids.clone().all(is_entry_id) {
        return Err(AwsError::invalid_batch_entry_id(
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
        ));
    }
    // So few that comparing them all is the cheapest.
    for (at, id) in ids.clone().enumerate() {
        if ids.clone().take(at).any(|earlier| earlier == id) {
            return Err(AwsError::batch_entry_ids_not_distinct(format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_1_to_10_entries_with_ids_of_their_own() {
        let ids: Vec<String> = (0..11).map(|id| id.to_string()).collect();
        let of =
            |count: usize| check("SendMessageBatchRequestEntry", ids[..count].iter().map(String::as_str));
        for count in [1, 9, 10] {
            assert_eq!(of(count), Ok(()));
        }
        let text = |result: Result<(), AwsError>| result.unwrap_err().message.into_owned();
        assert_eq!(text(of(0)), "There should be at least one SendMessageBatchRequestEntry in the request.");
        assert_eq!(text(of(11)), "Maximum number of entries per request are 10. You have sent 11.");
        assert_eq!(
            text(check("DeleteMessageBatchRequestEntry", ["a", "b", "a"].into_iter())),
            "Id a repeated."
        );
        assert_eq!(
            check("SendMessageBatchRequestEntry", ["a:b"].into_iter()).unwrap_err().code,
            "AWS.SimpleQueueService.InvalidBatchEntryId"
        );
    }
}

//! What tags may be.

use std::collections::BTreeMap;

use crate::AwsError;

/// Tags of one queue.
const TAGS_MAX: usize = 50;

/// Characters of a tag's key, and of its value.
const KEY_LEN_MAX: usize = 128;
const VALUE_LEN_MAX: usize = 256;

/// The tag that says how long a queue keeps deleted messages, for `wiremill queue replay`.
pub(super) const HISTORY_TAG: &str = "wiremill:history";

/// Milliseconds of `30s`, `5m`, `12h` or `3d`.
pub(super) fn history_ms(value: &str) -> Option<u64> {
    wire::time::span_ms(value).filter(|ms| *ms > 0)
}

/// Checks the tags that the queue `name` is to have.
pub(super) fn check_tags(name: &str, tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
    if tags.len() > TAGS_MAX {
        return Err(AwsError::invalid_parameter_value(format!("Too many tags added for queue {name}.")));
    }
    if let Some(value) = tags.get(HISTORY_TAG).filter(|value| history_ms(value).is_none()) {
        return Err(AwsError::invalid_parameter_value(format!(
            "Tag {HISTORY_TAG} of queue {name} is not a time such as 30s, 5m, 12h or 3d: {value}."
        )));
    }
    for (key, value) in tags {
        if !(1..=KEY_LEN_MAX).contains(&key.chars().count()) {
            return Err(AwsError::invalid_parameter_value(BAD_KEY));
        }
        if value.chars().count() > VALUE_LEN_MAX {
            return Err(AwsError::invalid_parameter_value(
                "Tag values must be between 0 and 256 characters in length.",
            ));
        }
    }
    Ok(())
}

/// The text for a key that no tag may have.
pub(super) const BAD_KEY: &str = "Tag keys must be between 1 and 128 characters in length.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_their_limits() {
        let of = |count: usize, key_len: usize, value_len: usize| {
            let key = |at: usize| format!("{at:0>key_len$}");
            check_tags("jobs", &(0..count).map(|at| (key(at), "v".repeat(value_len))).collect()).is_ok()
        };
        assert!(of(50, 128, 256) && of(49, 2, 0));
        assert!(!of(51, 128, 256) && !of(1, 129, 0) && !of(1, 1, 257));
        assert!(check_tags("jobs", &[(String::new(), String::new())].into()).is_err());
        for (history, is_time) in
            [("3d", true), ("90s", true), ("", false), ("3", false), ("d", false), ("0s", false)]
        {
            let tags = [(HISTORY_TAG.to_owned(), history.to_owned())].into();
            assert_eq!(check_tags("jobs", &tags).is_ok(), is_time, "{history}");
        }
    }
}

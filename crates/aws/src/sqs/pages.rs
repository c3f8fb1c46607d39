//! Lists in pages. A token says after which name its page begins, so that it stays right whatever comes and goes.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::AwsError;

/// Names in one page.
const PAGE_MAX: i32 = 1_000;

/// One page of sorted names, with the token of the next; there is one only for who asks for pages of a size.
pub(super) fn page(
    mut names: Vec<String>,
    token: Option<&str>,
    max_results: Option<i32>,
) -> Result<(Vec<String>, Option<String>), AwsError> {
    if let Some(count) = max_results.filter(|count| !(1..=PAGE_MAX).contains(count)) {
        return Err(AwsError::invalid_value(count, "MaxResults", "Must be between 1 and 1000, if provided."));
    }
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        let after = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let after =
            after.ok_or_else(|| AwsError::invalid_value(token, "NextToken", "The token is invalid."))?;
        names.retain(|name| *name > after);
    }
    let count = usize::try_from(max_results.unwrap_or(PAGE_MAX)).unwrap_or(1);
    let is_cut = names.len() > count;
    names.truncate(count);
    let next = names.last().filter(|_| is_cut && max_results.is_some()).map(|last| STANDARD.encode(last));
    Ok((names, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_until_all_is_told() {
        let names: Vec<String> = (0..25).map(|at| format!("q{at:02}")).collect();
        let (mut told, mut token) = (Vec::new(), None);
        loop {
            let (page, next) = page(names.clone(), token.as_deref(), Some(10)).unwrap();
            told.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(told, names);
        assert_eq!(page(names.clone(), None, None).unwrap(), (names.clone(), None));
        for bad in [0, 1_001, -1] {
            assert_eq!(page(Vec::new(), None, Some(bad)).unwrap_err().code, "InvalidParameterValue");
        }
        assert!(page(names, Some("?"), None).is_err());
    }

    #[test]
    fn who_asks_for_no_size_gets_a_thousand() {
        let names: Vec<String> = (0..1_001).map(|at| format!("{at:04}")).collect();
        let (told, next) = page(names, None, None).unwrap();
        assert_eq!((told.len(), next), (1_000, None));
    }
}

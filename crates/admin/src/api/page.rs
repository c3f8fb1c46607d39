//! Lists in parts: `limit`, and `after`, which is the `next` of the answer before.

use model::{Error, Result};
use serde::Deserialize;

use crate::caller::invalid;

/// Rows that one answer has at most where it is asked for parts.
const LIMIT_MAX: usize = 10_000;

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PageQuery {
    limit: Option<usize>,
    after: Option<String>,
}

impl PageQuery {
    /// The items of that part, and after what the next one begins, if there is one. `all` are ordered by `place`, which is
    /// different for each.
    pub(crate) fn of<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        place: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>)> {
        if self.limit == Some(0) {
            return Err(invalid("limit is at least 1"));
        }
        if self.limit.is_some_and(|limit| limit > LIMIT_MAX) {
            return Err(Error::limit(format!("limit is at most {LIMIT_MAX}")));
        }
        let is_after = |item: &T| self.after.as_ref().is_none_or(|after| place(item) > *after);
        let mut rest = all.into_iter().filter(is_after);
        let part: Vec<T> = rest.by_ref().take(self.limit.unwrap_or(usize::MAX)).collect();
        let next = rest.next().and_then(|_| part.last()).map(&place);
        Ok((part, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_list_are_the_list() {
        let all = ["a", "b", "c", "d", "e"];
        let part = |limit: Option<usize>, after: Option<&str>| {
            let query = PageQuery { limit, after: after.map(str::to_owned) };
            query.of(all, |name| (*name).to_owned())
        };
        assert_eq!(part(None, None).unwrap(), (all.to_vec(), None));
        assert_eq!(part(Some(2), None).unwrap(), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(part(Some(2), Some("b")).unwrap(), (vec!["c", "d"], Some("d".to_owned())));
        assert_eq!(part(Some(2), Some("d")).unwrap(), (vec!["e"], None));
        assert_eq!(part(Some(5), None).unwrap().1, None);
        // One that went meanwhile leaves its place behind.
        assert_eq!(part(None, Some("bb")).unwrap().0, ["c", "d", "e"]);
        for (limit, is_right) in [(0, false), (1, true), (LIMIT_MAX, true), (LIMIT_MAX + 1, false)] {
            assert_eq!(part(Some(limit), None).is_ok(), is_right, "{limit}");
        }
    }
}

//! What a table of routes hands out: something shared that is told apart, and ordered, by its number.

use std::{cmp::Ordering, sync::Arc};

/// Something with a number of its own.
pub(crate) trait Numbered {
    /// Ascends with age; given once.
    fn number(&self) -> u64;
}

/// One of them in a table.
#[derive(Debug)]
pub(crate) struct Member<T>(pub Arc<T>);

impl<T> Clone for Member<T> {
    fn clone(&self) -> Self {
        Member(self.0.clone())
    }
}

impl<T: Numbered> PartialEq for Member<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.number() == other.0.number()
    }
}

impl<T: Numbered> Eq for Member<T> {}

impl<T: Numbered> PartialOrd for Member<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Numbered> Ord for Member<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.number().cmp(&other.0.number())
    }
}

//! The catalog's key: (tenant, space, kind, name).

use std::{fmt, sync::Arc};

/// Where a name lives. Tenants are isolated from each other; a space divides one tenant's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// Tenant, 1..=255 bytes.
    pub tenant: Arc<str>,
    /// Space, 1..=255 bytes.
    pub space: Arc<str>,
}

impl Namespace {
    /// The namespace `tenant/space`.
    pub fn new(tenant: &str, space: &str) -> Self {
        Namespace { tenant: tenant.into(), space: space.into() }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace::new("public", "default")
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.space)
    }
}

/// The two kinds of stream. A log and a queue of one name are two unrelated things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Kept by retention, read by position.
    Log,
    /// Worked off through leases, gone when settled.
    Queue,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Log => "log",
            Kind::Queue => "queue",
        })
    }
}

/// The full name of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// Tenant and space.
    pub namespace: Namespace,
    /// Log or queue.
    pub kind: Kind,
    /// Name as the creating dialect gave it, 1..=255 bytes of UTF-8.
    pub name: Arc<str>,
}

impl StreamKey {
    /// The log `name` in `namespace`.
    pub fn log(namespace: &Namespace, name: &str) -> Self {
        StreamKey { namespace: namespace.clone(), kind: Kind::Log, name: name.into() }
    }

    /// The queue `name` in `namespace`.
    pub fn queue(namespace: &Namespace, name: &str) -> Self {
        StreamKey { namespace: namespace.clone(), kind: Kind::Queue, name: name.into() }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.kind)
    }
}

/// How a dialect that forbids some characters shows `name`: every forbidden character becomes `_`, and six hex digits
/// of a hash of the whole name follow, so that the alias never depends on what else exists. `None` when the name needs
/// no alias. `len_max` is the dialect's own limit, in bytes; the name's head is cut to fit.
pub fn alias(name: &str, len_max: usize, allowed: impl Fn(char) -> bool) -> Option<String> {
    if name.len() <= len_max && name.chars().all(&allowed) {
        return None;
    }
    let shown: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let head = &shown[..shown.floor_char_boundary(len_max.saturating_sub(7))];
    Some(format!("{head}-{:06x}", fnv1a(name.as_bytes()) & 0xff_ffff))
}

/// How a dialect whose readers read one log shows part `index` of an object of several: the name as in [`alias`], the index,
/// and six hex digits of a hash of the whole name.
pub fn alias_of_part(name: &str, index: u32, len_max: usize, allowed: impl Fn(char) -> bool) -> String {
    let shown: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let tail = format!("-{index}-{:06x}", fnv1a(name.as_bytes()) & 0xff_ffff);
    format!("{}{tail}", &shown[..shown.floor_char_boundary(len_max.saturating_sub(tail.len()))])
}

/// FNV-1a, 64 bits: fixed for ever, since aliases must not change between releases.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '-'
    }

    #[test]
    fn a_name_that_is_allowed_needs_no_alias() {
        assert_eq!(alias("orders-1", 8, plain), None);
    }

    #[test]
    fn an_alias_depends_on_the_name_alone() {
        let slash = alias("a/b", 100, plain).unwrap();
        let dot = alias("a.b", 100, plain).unwrap();
        assert!(slash.starts_with("a_b-") && slash.len() == 10);
        assert_ne!(slash, dot, "two names that look alike have two aliases");
    }

    #[test]
    fn a_part_of_an_object_is_shown_with_its_index_and_the_hash_of_the_whole_name() {
        let parts = [0, 12].map(|index| alias_of_part("a.b", index, 100, plain));
        let hash = alias("a.b", 100, plain).unwrap()[4..].to_owned();
        assert_eq!(parts, [format!("a_b-0-{hash}"), format!("a_b-12-{hash}")]);
        assert_eq!(alias_of_part(&"x".repeat(300), 7, 255, plain).len(), 255);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_to_the_limit() {
        for len_max in [8, 20, 249] {
            assert_eq!(alias(&"x".repeat(len_max), len_max, plain), None);
            assert_eq!(alias(&"x".repeat(len_max + 1), len_max, plain).unwrap().len(), len_max);
        }
    }
}

//! Who may do what.

use std::sync::Arc;

use bytes::Bytes;

mod access_key;
mod change;
mod identity;
mod operator;
mod password;
mod users;

pub use access_key::AccessKey;
pub use change::UserChange;
pub use identity::Identity;
pub use operator::LastUser;
pub(crate) use password::PasswordCache;
pub use users::Users;

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Read streams, work queues, commit positions.
    Read,
    /// Publish.
    Write,
    /// Create, change and delete streams, routes and cursors.
    Configure,
    /// Everything, with users and the admin API.
    Admin,
    /// Answer: publish once to the address that a live message which it was sent names for its answer.
    Respond,
}

/// Whether a permission gives or takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It may.
    #[default]
    Allow,
    /// It may not, whatever else allows it.
    Deny,
}

/// One thing that a user may do, or may not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// What.
    pub action: Action,
    /// To which names: `*` stands for any run of characters, everything else for itself.
    pub pattern: String,
    /// Allowed or denied.
    pub effect: Effect,
}

impl Permission {
    /// One that allows.
    pub fn allow(action: Action, pattern: &str) -> Self {
        Permission { action, pattern: pattern.to_owned(), effect: Effect::Allow }
    }

    /// One that denies.
    pub fn deny(action: Action, pattern: &str) -> Self {
        Permission { action, pattern: pattern.to_owned(), effect: Effect::Deny }
    }

    /// Whether it speaks of doing `action` to `name`. [`Action::Admin`] stands for every action.
    fn speaks_of(&self, action: Action, name: &str) -> bool {
        (self.action == action || self.action == Action::Admin) && matches(&self.pattern, name)
    }
}

/// The two hashes that a challenge may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramHash {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// What a server needs to check a SCRAM exchange (RFC 5802 §3). It does not give the password away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramVerifier {
    /// Salt of the password.
    pub salt: Bytes,
    /// Rounds of the password's derivation, 4,096..=16,384.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Bytes,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Bytes,
}

/// What a user proves its identity with.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A password, to be turned into every form that a mechanism needs.
    Password(String),
    /// One ready-made form, beside the others that the user has.
    Scram(ScramHash, ScramVerifier),
    /// That form is taken away.
    NoScram(ScramHash),
}

/// A user to be made or changed; what is `None` stays as it is (or is the default of a new user).
#[derive(Clone, Debug, Default)]
pub struct UserSpec {
    /// What it proves its identity with, applied in order.
    pub credentials: Vec<Credentials>,
    /// Its tenant; `public` for a new user.
    pub tenant: Option<String>,
    /// What it may do; everything in its tenant for a new user.
    pub permissions: Option<Vec<Permission>>,
}

/// A user as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Whether it has a password.
    pub has_password: bool,
    /// The challenge forms that it has, with their rounds.
    pub scram: Vec<(ScramHash, u32)>,
    /// Ids of its access keys.
    pub access_keys: Vec<String>,
    /// Its public keys.
    pub public_keys: Vec<String>,
    /// How many tokens name it.
    pub token_count: usize,
    /// What it may do.
    pub permissions: Vec<Permission>,
}

/// Who a session acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name of the user; `None` for a session that was let in without one.
    pub name: Option<Arc<str>>,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// What it may do.
    pub permissions: Arc<[Permission]>,
}

impl Principal {
    /// A session that was let in without a user: everything in the tenant `public`.
    pub fn anonymous() -> Self {
        let all = Permission::allow(Action::Admin, "*");
        Principal { name: None, tenant: "public".into(), permissions: [all].into() }
    }

    /// Whether it may do `action` to the stream or address `name` of its tenant: something allows it and nothing denies
    /// it. [`Action::Admin`] stands for every action.
    pub fn allows(&self, action: Action, name: &str) -> bool {
        let mut is_allowed = false;
        for permission in self.permissions.iter().filter(|permission| permission.speaks_of(action, name)) {
            match permission.effect {
                Effect::Allow => is_allowed = true,
                Effect::Deny => return false,
            }
        }
        is_allowed
    }

    /// Whether it runs the whole server: may do everything, in the tenant `public`.
    pub fn runs_the_server(&self) -> bool {
        &*self.tenant == "public" && self.allows(Action::Admin, "*")
    }

    /// Whether something denies `action` to `name`.
    pub fn denies(&self, action: Action, name: &str) -> bool {
        let denied = |permission: &&Permission| permission.effect == Effect::Deny;
        self.permissions.iter().filter(denied).any(|permission| permission.speaks_of(action, name))
    }
}

/// Whether `pattern`, in which `*` stands for any run of characters, matches `name`. Linear in their product at worst.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p, n));
            p += 1;
        } else if pattern.get(p) == name.get(n) {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            p = star + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "orders", true),
            ("orders", "orders", true),
            ("orders", "orders.v1", false),
            ("orders.*", "orders.v1", true),
            ("*.v1", "orders.v1", true),
            ("o*r*", "orders", true),
            ("o*x*", "orders", false),
            ("", "orders", false),
            ("**a", "ba", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn admin_allows_every_action_and_others_only_their_own() {
        let reader = Principal {
            permissions: [Permission::allow(Action::Read, "orders*")].into(),
            ..Principal::anonymous()
        };
        assert!(reader.allows(Action::Read, "orders.v1"));
        assert!(!reader.allows(Action::Write, "orders.v1"));
        assert!(!reader.allows(Action::Read, "billing"));
        assert!(Principal::anonymous().allows(Action::Configure, "billing"));
    }

    #[test]
    fn what_is_denied_is_denied_whatever_allows_it() {
        let reader = Principal {
            permissions: [
                Permission::deny(Action::Read, "orders.secret*"),
                Permission::allow(Action::Admin, "*"),
            ]
            .into(),
            ..Principal::anonymous()
        };
        assert!(reader.allows(Action::Read, "orders.v1") && !reader.denies(Action::Read, "orders.v1"));
        assert!(
            !reader.allows(Action::Read, "orders.secret") && reader.denies(Action::Read, "orders.secret")
        );
        assert!(reader.allows(Action::Write, "orders.secret"));
    }
}

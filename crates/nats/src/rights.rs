//! What a session may do.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use broker::{Action, Effect, Permission, Principal};

/// Subjects whose answer is kept.
const KEPT_MAX: usize = 1_024;

/// The rights of the user that a session speaks for.
pub(crate) struct Rights {
    pub principal: Arc<Principal>,
    /// It may do everything: no subject is looked at.
    is_free: bool,
    /// Whether a permission takes subjects to listen to away: what a pattern brings is then looked at too.
    pub filters: bool,
    /// Whether it may answer what it was asked, beyond where it may publish.
    pub responds: bool,
    published: RefCell<HashMap<Box<[u8]>, bool>>,
}

impl Rights {
    pub(crate) fn of(principal: Principal) -> Self {
        let any = |is: &dyn Fn(&Permission) -> bool| principal.permissions.iter().any(is);
        let allows_all =
            any(&|one| one.effect == Effect::Allow && one.action == Action::Admin && one.pattern == "*");
        let denies_any = any(&|one| one.effect == Effect::Deny);
        let filters =
            any(&|one| one.effect == Effect::Deny && matches!(one.action, Action::Read | Action::Admin));
        let responds = any(&|one| one.effect == Effect::Allow && one.action == Action::Respond);
        Rights {
            is_free: principal.name.is_none() || (allows_all && !denies_any),
            filters,
            responds,
            principal: Arc::new(principal),
            published: RefCell::default(),
        }
    }

    /// Whether it may publish there.
    pub(crate) fn may_publish(&self, subject: &[u8]) -> bool {
        if self.is_free {
            return true;
        }
        let mut published = self.published.borrow_mut();
        if let Some(known) = published.get(subject) {
            return *known;
        }
        let may = self.principal.allows(Action::Write, &String::from_utf8_lossy(subject));
        if published.len() >= KEPT_MAX {
            published.clear();
        }
        published.insert(subject.into(), may);
        may
    }

    /// Whether it may answer there, if it was asked to.
    pub(crate) fn may_respond(&self, subject: &[u8]) -> bool {
        self.responds && self.principal.allows(Action::Respond, &String::from_utf8_lossy(subject))
    }

    /// Whether it may listen there. A member of a queue group is also allowed, and denied, by a pattern of subject, blank
    /// and group.
    pub(crate) fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        if self.is_free {
            return true;
        }
        let subject = String::from_utf8_lossy(subject);
        let Some(queue) = queue else { return self.principal.allows(Action::Read, &subject) };
        let both = format!("{subject} {}", String::from_utf8_lossy(queue));
        let [plain, grouped] = [&*subject, both.as_str()];
        let is_allowed = |name| self.principal.allows(Action::Read, name);
        let is_denied = |name| self.principal.denies(Action::Read, name);
        (is_allowed(plain) || is_allowed(grouped)) && !is_denied(plain) && !is_denied(grouped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(permissions: &[Permission]) -> Rights {
        let principal =
            Principal { name: Some("u".into()), tenant: "public".into(), permissions: permissions.into() };
        Rights::of(principal)
    }

    #[test]
    fn members_of_a_group_may_be_allowed_and_denied_apart() {
        let rights = rights(&[
            Permission::allow(Action::Read, "open"),
            Permission::allow(Action::Read, "jobs v1*"),
            Permission::deny(Action::Read, "* v1.old"),
        ]);
        for (subject, queue, may) in [
            ("open", None, true),
            ("open", Some("any"), true),
            ("open", Some("v1.old"), false),
            ("jobs", None, false),
            ("jobs", Some("v2"), false),
            ("jobs", Some("v1.new"), true),
            ("jobs", Some("v1.old"), false),
        ] {
            let queue = queue.map(str::as_bytes);
            assert_eq!(rights.may_subscribe(subject.as_bytes(), queue), may, "{subject} {queue:?}");
        }
        assert!(rights.filters && !rights.responds);
    }

    #[test]
    fn a_kept_answer_is_the_answer() {
        let rights =
            rights(&[Permission::allow(Action::Write, "a.*"), Permission::deny(Action::Write, "a.b")]);
        for _ in 0..2 {
            assert!(rights.may_publish(b"a.c") && !rights.may_publish(b"a.b") && !rights.may_publish(b"b"));
        }
    }
}

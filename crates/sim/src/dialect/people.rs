//! Users with what they may do, and routes: changed at random, and asked.

use broker::{Action, Effect, Permission, UserSpec};
use model::Namespace;

use super::{
    run::Run,
    streams::{CURSORS, EVENTS, MOVED_TO, NARROW, SPILL, SPREAD, STREAMS, key},
};

/// Where the routes from the addresses lead, with the template of the record key there.
pub(super) const ROUTES: [(usize, Option<&str>); 4] =
    [(EVENTS, None), (SPREAD, None), (SPREAD, Some("{address}")), (NARROW, None)];

/// Patterns of permissions.
const PATTERNS: [&str; 10] = ["*", "*", "*", "jobs", "e*", "*s", "s*d", "**r*", "", "*e*e*"];

const ACTIONS: [Action; 6] =
    [Action::Read, Action::Write, Action::Configure, Action::Admin, Action::Admin, Action::Respond];

/// The address of a route.
pub(super) fn address(number: usize) -> String {
    format!("address{number}")
}

impl Run {
    /// Adds and removes users and routes.
    pub fn change_names(&mut self) {
        let number = self.rng.index(ROUTES.len());
        if self.rng.permille(500) { self.change_user(number) } else { self.change_route(number) }
    }

    fn change_user(&mut self, number: usize) {
        let Some(broker) = self.broker.clone() else { return };
        let name = format!("user{number}");
        // Unknown until it is answered.
        let before = self.named.remove(&name);
        self.people.remove(&name);
        let is_there = before != Some(true) || self.rng.permille(500);
        let permissions = self.permissions();
        let done = if is_there {
            let permissions = Some(permissions.clone());
            self.wait(broker.users().put(&name, UserSpec { permissions, ..UserSpec::default() }))
        } else {
            self.wait(broker.users().delete(&name))
        };
        if let Some(Ok(())) = done {
            self.report.count("users and routes changed");
            if is_there {
                self.people.insert(name.clone(), permissions);
            }
            self.named.insert(name, is_there);
        }
    }

    fn permissions(&mut self) -> Vec<Permission> {
        let count = self.rng.below(4);
        let one = |run: &mut Run| Permission {
            action: run.rng.pick(&ACTIONS),
            pattern: run.rng.pick(&PATTERNS).to_owned(),
            effect: run.rng.pick(&[Effect::Allow, Effect::Allow, Effect::Allow, Effect::Deny]),
        };
        (0..count).map(|_| one(self)).collect()
    }

    fn change_route(&mut self, number: usize) {
        let Some(broker) = self.broker.clone() else { return };
        let (name, from) = (format!("route:{}", address(number)), format!("neutral:{}", address(number)));
        self.named.remove(&name);
        let known = broker.routes().into_iter().find(|route| route.from == from);
        let (target, template) = ROUTES[number];
        let done = match known {
            Some(route) => self.wait(broker.remove_route(route.id)),
            None => self
                .wait(broker.add_route(&Namespace::default(), &from, key(target), template))
                .map(|added| added.map(drop)),
        };
        if let Some(Ok(())) = done {
            self.report.count("users and routes changed");
            let is_there = broker.routes().iter().any(|route| route.from == from);
            self.named.insert(name, is_there);
        }
    }

    /// A session of a user: it asks whether it may, as every dialect does, and does it only then.
    pub fn act_for_a_user(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let Some((name, permissions)) = self.people.iter().nth(self.rng.index(self.people.len())) else {
            return;
        };
        let (name, permissions) = (name.clone(), permissions.clone());
        let Some(principal) = broker.users().principal(&name) else {
            return self.broken(format!("the user {name} is not there"));
        };
        let action = self.rng.pick(&[Action::Read, Action::Write, Action::Write, Action::Configure]);
        let stream = self.rng.index(STREAMS.len());
        let may = principal.allows(action, STREAMS[stream].0);
        let expected = allows(&permissions, action, STREAMS[stream].0);
        self.report.count(if expected { "permissions given" } else { "permissions denied" });
        if may != expected {
            let what = format!("{action:?} of {}", STREAMS[stream].0);
            return self.broken(format!("permission for {what} is {may} with {permissions:?}"));
        }
        match action {
            Action::Write if may && stream != SPILL && !MOVED_TO.contains(&stream) => self.publish_to(stream),
            Action::Read if may && CURSORS.iter().any(|(of, _)| *of == stream) => self.browse_stream(stream),
            _ => {}
        }
    }
}

/// The same question, asked of the list naively.
fn allows(permissions: &[Permission], action: Action, name: &str) -> bool {
    let speaks = |one: &&Permission| {
        (one.action == action || one.action == Action::Admin)
            && matches(one.pattern.as_bytes(), name.as_bytes())
    };
    let speaking: Vec<&Permission> = permissions.iter().filter(speaks).collect();
    speaking.iter().any(|one| one.effect == Effect::Allow)
        && !speaking.iter().any(|one| one.effect == Effect::Deny)
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, tail)| first == byte && matches(rest, tail))
        }
    }
}

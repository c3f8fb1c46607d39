//! What the session's user may do, also when that changes while its connection is open.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use broker::{Action, Principal};

use super::{Routes, Session};
use crate::{
    channel::Failed,
    codec::{Method, put_method},
    error::{Code, Exception},
};

/// How permissions call the default exchange, which has no name.
const DEFAULT_EXCHANGE: &str = "amq.default";

type Done = Result<(), Exception>;

impl Session {
    /// Has [`Session::user_changed`] told of the next change of a user. Before the session's own is looked up: no change is
    /// missed then.
    pub(super) fn watch_users(&self) {
        self.server.broker.users().watch(&self.users);
    }

    /// Resolves when something about some user has changed since the session logged in as one.
    pub(crate) async fn user_changed(&self) {
        self.users.changed().await;
    }

    /// Some user changed, who may be the session's own. What the connection ends with, where that is gone.
    pub(crate) async fn look_at_user(&mut self) -> Option<Box<Failed>> {
        self.watch_users();
        let known = self.principal.clone()?;
        let name = known.name.as_deref()?;
        let ended = match self.server.broker.users().principal(name) {
            None => Some(format!("user '{name}' is deleted")),
            Some(principal) if principal.tenant != known.tenant => {
                Some(format!("user '{name}' has another tenant"))
            }
            Some(principal) if principal == *known => None,
            Some(principal) => self.renew(principal).await.err().map(|failed| failed.explanation),
        };
        self.flush();
        let exception = Exception::new(Code::ConnectionForced, ended?);
        Some(Box::new(Failed { exception, class: 0, method: 0 }))
    }

    /// Users of the broker have no secret that runs out, but what they may do can have changed: that is looked up anew.
    pub(super) async fn update_rights(&mut self) -> Done {
        let Some(known) = self.principal.clone() else { return Ok(()) };
        let Some(name) = &known.name else { return Ok(()) };
        match self.server.broker.users().principal(name) {
            Some(principal) if principal.tenant == known.tenant => self.renew(principal).await,
            _ => Err(Exception::not_allowed("New secret was refused by one of the backends")),
        }
    }

    /// From now on the user may do this, and consumers that may not read any more end.
    async fn renew(&mut self, principal: Principal) -> Done {
        self.principal = Some(Arc::new(principal));
        self.routes = Routes::default();
        let mut refused = Vec::new();
        for (number, channel) in &self.channels {
            for (tag, running) in &channel.consumers {
                if self.check_may(Action::Read, "queue", &running.consumer.lessee.queue.name).is_err() {
                    refused.push((*number, tag.clone()));
                }
            }
        }
        for (number, tag) in refused {
            self.cancel(number, &tag, true).await?;
            if self.client.wants_cancels.load(Relaxed) {
                put_method(&mut self.out, number, Method::BasicCancel { consumer_tag: &tag, nowait: true });
            }
        }
        Ok(())
    }

    /// Whether the user may do that, in the original's words.
    pub(super) fn check_may(&self, action: Action, what: &str, name: &str) -> Done {
        let name = if what == "exchange" && name.is_empty() { DEFAULT_EXCHANGE } else { name };
        if self.principal.as_ref().is_some_and(|principal| principal.allows(action, name)) {
            return Ok(());
        }
        let verb = match action {
            Action::Read => "read",
            Action::Write => "write",
            _ => "configure",
        };
        let vhost = self.vhost.as_ref().map_or("/", |vhost| vhost.name.as_str());
        Err(Exception::refused(format!(
            "{verb} access to {what} '{name}' in vhost '{vhost}' refused for user '{}'",
            self.user
        )))
    }

    /// Whether the user may do anything at all with it: enough to ask whether it is there. The refusal is that of a
    /// declaration.
    pub(super) fn check_any(&self, what: &str, name: &str) -> Done {
        let refused = self.check_may(Action::Configure, what, name);
        let others = [Action::Read, Action::Write];
        if others.into_iter().any(|action| self.check_may(action, what, name).is_ok()) {
            return Ok(());
        }
        refused
    }
}

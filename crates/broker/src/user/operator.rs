//! Whoever runs the server stays able to: no change may leave users of whom nobody can administer it, and the last user
//! does not go while the door it keeps shut would stand open.

use model::{Error, ErrorKind, Result};

use super::{Principal, Users, users::no_such_user};
use crate::catalog::{CatalogState, UserRecord};

/// What the deletion of the last user means: without any, everybody who reaches a listener may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastUser {
    /// It may go: only this machine reaches the listeners, or somebody consented.
    MayGo,
    /// It stays.
    Stays,
}

impl Users<'_> {
    /// Removes a user as whoever runs the server does; answers after the commit. [`ErrorKind::NotFound`] when it is not
    /// there, [`ErrorKind::Conflict`] for the only one who runs the server, and for the last one if it stays.
    pub async fn remove(&self, name: &str, last: LastUser) -> Result<()> {
        let seq = {
            let mut state = self.broker().catalog().lock();
            check_removal(&state, name, last)?;
            self.stage_delete(&mut state, name)?
        };
        self.tell_watchers();
        self.broker().durable(seq).await
    }
}

fn check_removal(state: &CatalogState, name: &str, last: LastUser) -> Result<()> {
    if !state.users.contains_key(name) {
        return Err(no_such_user(name));
    }
    if state.users.len() > 1 {
        return check_operator(state, name, None);
    }
    match last {
        LastUser::MayGo => Ok(()),
        LastUser::Stays => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "{name} is the last user, and without any, whoever reaches a listener could do everything: add another \
                 one first, or start with all listeners on loopback or with --insecure"
            ),
        )),
    }
}

/// [`ErrorKind::Conflict`] when nobody could administer the server once the user `name` is `after`. Where nobody can as it
/// is, every change may be made.
pub(super) fn check_operator(state: &CatalogState, name: &str, after: Option<&UserRecord>) -> Result<()> {
    let mut others = state.users.iter().filter(|(other, _)| &***other != name);
    if after.is_some_and(is_operator) || others.any(|(_, user)| is_operator(user)) {
        return Ok(());
    }
    let is_now = state.users.get(name).is_some_and(is_operator);
    if !state.users.is_empty() && !is_now {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "nobody could administer the server any more: first make a user of tenant \"public\" with a password who may do \
         everything (wiremill user add NAME --allow 'admin:*')",
    ))
}

/// Whether the user can say who it is where the server is administered, and may do everything there.
fn is_operator(user: &UserRecord) -> bool {
    let principal =
        Principal { name: None, tenant: user.tenant.clone(), permissions: user.permissions.clone() };
    user.password.is_some() && principal.runs_the_server()
}

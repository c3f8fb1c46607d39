//! A user's change as one: all of it is checked before any of it is made, so that an error leaves everything as it was.

use model::{Error, Result, Seq};
use store::Class;

use super::{
    Identity, UserSpec, Users, access_key::KeyChange, identity::IdentityChange, operator::check_operator,
    users::changed,
};
use crate::{
    broker::Broker,
    catalog::{CatalogState, Command},
};

/// All that is to change about a user. What is given is given before anything is taken away.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Credentials, tenant, permissions.
    pub spec: UserSpec,
    /// Access keys, as ids and secrets: new ones, or other secrets of those that it has.
    pub access_keys: Vec<(String, String)>,
    /// Ids of access keys that it has no longer.
    pub remove_access_keys: Vec<String>,
    /// Public keys that stand for it.
    pub public_keys: Vec<String>,
    /// Public keys that do so no longer.
    pub remove_public_keys: Vec<String>,
    /// Tokens that stand for it.
    pub tokens: Vec<String>,
    /// Tokens that do so no longer.
    pub remove_tokens: Vec<String>,
}

impl UserChange {
    fn keys(&self) -> KeyChange<'_> {
        KeyChange {
            given: self.access_keys.iter().map(|(id, secret)| (id.as_str(), secret.as_str())).collect(),
            taken: self.remove_access_keys.iter().map(String::as_str).collect(),
        }
    }

    fn identities(&self) -> IdentityChange<'_> {
        fn all<'a>(keys: &'a [String], tokens: &'a [String]) -> Vec<Identity<'a>> {
            let keys = keys.iter().map(|key| Identity::PublicKey(key));
            keys.chain(tokens.iter().map(|token| Identity::Token(token))).collect()
        }
        IdentityChange {
            given: all(&self.public_keys, &self.tokens),
            taken: all(&self.remove_public_keys, &self.remove_tokens),
        }
    }
}

impl Users<'_> {
    /// Makes or changes a user with its keys and tokens; answers after the commit. The errors are those of [`Users::put`];
    /// [`model::ErrorKind::Invalid`] for an id, a secret, a key or a token that is empty, too long or has other characters
    /// than visible ASCII, [`model::ErrorKind::Exists`] for what another user has, [`model::ErrorKind::Limit`] for too
    /// many of them, [`model::ErrorKind::NotFound`] for what is to be taken away and is not there, and
    /// [`model::ErrorKind::Conflict`] when nobody could administer the server any more. After an error nothing has
    /// changed. Does its hashing off the caller's thread.
    pub async fn change(&self, name: &str, change: UserChange) -> Result<()> {
        self.check(name, &change.spec)?;
        let (keys, identities) = (change.keys(), change.identities());
        keys.check()?;
        identities.check()?;
        let forms = self.forms(change.spec.credentials.clone()).await?;
        let seq = {
            let broker = self.broker();
            let mut state = broker.catalog().lock();
            let user = changed(&state, name, forms, &change.spec);
            check_operator(&state, name, Some(&user))?;
            let mut commands = vec![Command::PutUser { name: name.into(), user: Box::new(user) }];
            commands.extend(keys.commands(broker, &state, name)?);
            commands.extend(identities.commands(&state, name)?);
            apply_all(broker, &mut state, commands)?
        };
        self.tell_watchers();
        self.broker().durable(seq).await
    }
}

/// Logs and applies checked commands. Room for all of them is taken first, so that none is refused behind another.
fn apply_all(broker: &Broker, state: &mut CatalogState, commands: Vec<Command>) -> Result<Seq> {
    let encoded = commands.into_iter().map(|command| {
        let bytes = command.encode();
        let permit = broker.store().reserve(bytes.len(), Class::Drain)?;
        Ok((command, bytes, permit))
    });
    let encoded = encoded.collect::<Result<Vec<_>>>()?;
    let mut last = Seq(0);
    for (command, bytes, permit) in encoded {
        let mut applied = Ok(());
        last = broker.store().command(permit, bytes, |seq| applied = state.apply(seq, command));
        applied.map_err(|e| Error::internal(format!("a checked catalog command did not apply: {e}")))?;
    }
    Ok(last)
}

//! Users: kept in the catalog, checked here.

use std::sync::{Arc, atomic::Ordering};

use model::{Error, ErrorKind, Result, Seq, limits};

use super::{
    Action, Credentials, Permission, Principal, ScramHash, ScramVerifier, UserSpec, UserView,
    access_key::{keys_of, stage_no_keys},
    identity::{identities_of, stage_no_identities},
    password::{PASSWORD_ITERATIONS, SCRAM_ITERATIONS, derive, is_right},
};
use crate::{
    broker::Broker,
    catalog::{CatalogState, Command, UserRecord},
    faults::Fault,
    future::blocking,
    watch::Watch,
};

/// Permissions that one user may have.
const PERMISSIONS_MAX: usize = 1_000;

/// The broker's users; see [`Broker::users`].
pub struct Users<'a> {
    broker: &'a Broker,
}

impl<'a> Users<'a> {
    pub(crate) fn new(broker: &'a Broker) -> Self {
        Users { broker }
    }

    pub(super) fn broker(&self) -> &'a Broker {
        self.broker
    }

    /// Has `watch` told once, when a user is made, changed or removed, or a key or token of one is.
    pub fn watch(&self, watch: &Watch) {
        self.broker.inner.user_watchers.lock().add(watch);
    }

    /// Rises after every change that a watch is told of: who looks often compares, and what is read of a user after this
    /// is at least as new.
    pub fn generation(&self) -> u64 {
        self.broker.inner.users_generation.load(Ordering::Acquire)
    }

    /// Something about a user changed.
    pub(super) fn tell_watchers(&self) {
        self.broker.inner.users_generation.fetch_add(1, Ordering::AcqRel);
        self.broker.inner.user_watchers.lock().tell();
    }

    /// Whether any user is configured. While none is, loopback clients may be let in without.
    pub fn any(&self) -> bool {
        !self.broker.catalog().read().users.is_empty()
    }

    /// The principal of `name` if `password` is its password; [`model::ErrorKind::Unauthenticated`] otherwise, also when
    /// there is no such user. Does its hashing off the caller's thread.
    pub async fn authenticate(&self, name: &str, password: &str) -> Result<Principal> {
        let user = self.record(name);
        let verifier = user.and_then(|user| user.password);
        let inner = self.broker.inner.clone();
        let (name, password) = (name.to_owned(), password.to_owned());
        let checked = blocking(self.broker.env(), move || {
            let random = &*inner.env.random;
            let Some(verifier) = verifier else {
                // As slow as for a user that is there, so that names cannot be found out by the time it takes.
                derive(random, ScramHash::Sha256, &password, PASSWORD_ITERATIONS)?;
                return Err(wrong());
            };
            if !inner.passwords.knows(random, &name, &password, &verifier)? {
                if !is_right(&verifier, &password)? {
                    return Err(wrong());
                }
                inner.passwords.note(random, &name, &password, &verifier)?;
            }
            Ok(name)
        });
        let name = checked.await?;
        self.principal(&name).ok_or_else(wrong)
    }

    fn record(&self, name: &str) -> Option<UserRecord> {
        self.broker.catalog().read().users.get(name).cloned()
    }

    /// The principal of `name`, for a session that proved its identity otherwise (a challenge).
    pub fn principal(&self, name: &str) -> Option<Principal> {
        let state = self.broker.catalog().read();
        let (name, user) = state.users.get_key_value(name)?;
        let everything = self.broker.options().faults.has(Fault::PermissionSkipped);
        Some(Principal {
            name: Some(name.clone()),
            tenant: user.tenant.clone(),
            permissions: if everything { fresh().permissions } else { user.permissions.clone() },
        })
    }

    /// What checks a challenge for `name`, if the user has that form.
    pub fn scram(&self, name: &str, hash: ScramHash) -> Option<ScramVerifier> {
        self.broker.catalog().read().users.get(name)?.scram(hash).clone()
    }

    /// Makes or changes a user; answers after the commit. [`model::ErrorKind::Invalid`] for a name that is empty or too
    /// long. Does its hashing off the caller's thread. Whether anybody could administer the server then is not looked at:
    /// what people ask for is a [`Users::change`].
    pub async fn put(&self, name: &str, spec: UserSpec) -> Result<()> {
        self.check(name, &spec)?;
        let forms = self.forms(spec.credentials.clone()).await?;
        let seq = {
            let mut state = self.broker.catalog().lock();
            let user = changed(&state, name, forms, &spec);
            self.broker.command(&mut state, Command::PutUser { name: name.into(), user: Box::new(user) })?
        };
        self.tell_watchers();
        self.broker.durable(seq).await
    }

    /// What is refused without a look at what is there.
    pub(super) fn check(&self, name: &str, spec: &UserSpec) -> Result<()> {
        if name.is_empty() || name.len() > limits::NAME_LEN_MAX {
            return Err(Error::invalid(format!("a user's name has 1 to {} bytes", limits::NAME_LEN_MAX)));
        }
        let has_password = spec.credentials.iter().any(|one| matches!(one, Credentials::Password(_)));
        if has_password && name.contains(|c: char| c == ':' || c.is_control()) {
            // RFC 7617 §2: such a name cannot be said in HTTP, so the user could not administer anything.
            return Err(Error::invalid(
                "the name of a user with a password has no colon and no control character",
            ));
        }
        if spec.permissions.as_ref().is_some_and(|permissions| permissions.len() > PERMISSIONS_MAX) {
            return Err(Error::limit(format!("a user has at most {PERMISSIONS_MAX} permissions")));
        }
        Ok(())
    }

    /// Credentials in the forms that are stored, made off the caller's thread.
    pub(super) async fn forms(&self, credentials: Vec<Credentials>) -> Result<Vec<Form>> {
        let random = self.broker.env().random.clone();
        let forms = blocking(self.broker.env(), move || {
            credentials
                .into_iter()
                .map(|credentials| Form::of(&*random, credentials))
                .collect::<Result<Vec<_>>>()
        });
        forms.await
    }

    /// Removes a user; answers after the commit. [`model::ErrorKind::NotFound`] when it is not there.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let seq = self.stage_delete(&mut self.broker.catalog().lock(), name)?;
        self.tell_watchers();
        self.broker.durable(seq).await
    }

    pub(super) fn stage_delete(&self, state: &mut CatalogState, name: &str) -> Result<Seq> {
        let known = state.users.get_key_value(name).map(|(name, _)| name.clone());
        let name: Arc<str> = known.ok_or_else(|| no_such_user(name))?;
        stage_no_keys(self.broker, state, &name)?;
        stage_no_identities(self.broker, state, &name)?;
        self.broker.command(state, Command::DeleteUser { name })
    }

    /// Every user, by name.
    pub fn list(&self) -> Vec<UserView> {
        let state = self.broker.catalog().read();
        let view = |(name, user): (&Arc<str>, &UserRecord)| {
            let (public_keys, token_count) = identities_of(&state, name);
            UserView {
                name: name.to_string(),
                tenant: user.tenant.to_string(),
                has_password: user.password.is_some(),
                scram: [ScramHash::Sha256, ScramHash::Sha512]
                    .into_iter()
                    .filter_map(|hash| user.scram(hash).as_ref().map(|verifier| (hash, verifier.iterations)))
                    .collect(),
                access_keys: keys_of(&state, name)
                    .iter()
                    .map(|id| String::from_utf8_lossy(id).into_owned())
                    .collect(),
                public_keys,
                token_count,
                permissions: user.permissions.to_vec(),
            }
        };
        state.users.iter().map(view).collect()
    }
}

/// The user of that name, or a new one, with what is to change.
pub(super) fn changed(state: &CatalogState, name: &str, forms: Vec<Form>, spec: &UserSpec) -> UserRecord {
    let mut user = state.users.get(name).cloned().unwrap_or_else(fresh);
    forms.into_iter().for_each(|form| form.apply(&mut user));
    if let Some(tenant) = &spec.tenant {
        user.tenant = tenant.as_str().into();
    }
    if let Some(permissions) = &spec.permissions {
        user.permissions = permissions.as_slice().into();
    }
    user
}

pub(super) fn no_such_user(name: &str) -> Error {
    Error::not_found(format!("there is no user {name}"))
}

fn wrong() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the name or the password is wrong")
}

fn fresh() -> UserRecord {
    let all = Permission::allow(Action::Admin, "*");
    UserRecord {
        tenant: "public".into(),
        password: None,
        sha256: None,
        sha512: None,
        permissions: [all].into(),
    }
}

/// Credentials in the forms that are stored.
pub(super) enum Form {
    /// Check of a password, SHA-256 challenge, SHA-512 challenge.
    Password(Box<[ScramVerifier; 3]>),
    Scram(ScramHash, Option<ScramVerifier>),
}

impl Form {
    fn of(random: &dyn env::Random, credentials: Credentials) -> Result<Self> {
        Ok(match credentials {
            Credentials::Password(password) => Form::Password(Box::new([
                derive(random, ScramHash::Sha256, &password, PASSWORD_ITERATIONS)?,
                derive(random, ScramHash::Sha256, &password, SCRAM_ITERATIONS)?,
                derive(random, ScramHash::Sha512, &password, SCRAM_ITERATIONS)?,
            ])),
            Credentials::Scram(hash, verifier) => Form::Scram(hash, Some(verifier)),
            Credentials::NoScram(hash) => Form::Scram(hash, None),
        })
    }

    fn apply(self, user: &mut UserRecord) {
        match self {
            Form::Password(forms) => {
                let [password, sha256, sha512] = *forms;
                (user.password, user.sha256, user.sha512) = (Some(password), Some(sha256), Some(sha512));
            }
            Form::Scram(hash, verifier) => *user.scram_mut(hash) = verifier,
        }
    }
}

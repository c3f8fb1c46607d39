//! Who asks: the user whose access key signed a request, or whoever its key says while nobody has to prove it.

use std::sync::Arc;

use broker::{AccessKey, Principal};
use hyper::http::request::Parts;
use model::{Namespace, limits};
use parking_lot::Mutex;

use crate::{
    AccountId, Auth, AwsError, Caller, Server,
    codec::query::Parameters,
    sigv4::{self, Credential, Keys, SigningKeys},
};

impl Keys for Server {
    fn access_key(&self, id: &str) -> Option<AccessKey> {
        self.broker.users().access_key(id)
    }

    fn secret_of(&self, key: &AccessKey) -> Result<String, AwsError> {
        Ok(self.broker.users().secret_of(key)?)
    }

    fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }
}

/// Who asked on a connection before: the same as a rule, and as long as nobody has to prove it, told by key and region.
#[derive(Default)]
pub(crate) struct LatestCaller(Mutex<Option<Arc<Caller>>>);

impl LatestCaller {
    /// Who asks with `credential`, which is that of the request; see [`caller`].
    pub(crate) fn or_anew(
        &self,
        server: &Server,
        parts: &Parts,
        parameters: &Parameters<'_>,
        body: &[u8],
        credential: Option<&Credential<'_>>,
    ) -> Result<Arc<Caller>, AwsError> {
        if server.broker.users().any() {
            return caller(server, parts, parameters, body, credential);
        }
        let region = credential.map_or(server.options.region.as_str(), |credential| credential.region);
        let mut latest = self.0.lock();
        match &*latest {
            Some(caller)
                if *caller.region == *region
                    && caller.access_key_id.as_deref() == credential.map(|credential| credential.key)
                    && caller.principal.name.is_none() =>
            {
                Ok(caller.clone())
            }
            _ => {
                let found = caller(server, parts, parameters, body, credential)?;
                Ok(latest.insert(found).clone())
            }
        }
    }
}

/// Who asks with `credential`, which is that of the request. Checked when the settings say so and any user exists.
fn caller(
    server: &Server,
    parts: &Parts,
    parameters: &Parameters<'_>,
    body: &[u8],
    credential: Option<&Credential<'_>>,
) -> Result<Arc<Caller>, AwsError> {
    let key = if server.checks_signatures() {
        let now_s = server.broker.env().clock.wall_ms().div_euclid(1_000);
        Some(sigv4::verify(server, parts, parameters, body, now_s)?)
    } else {
        credential.and_then(|credential| server.access_key(credential.key))
    };
    let options = &server.options;
    let region = credential.map_or(options.region.as_str(), |credential| credential.region);
    if region.is_empty() || region.len() > limits::NAME_LEN_MAX {
        return Err(AwsError::incomplete_signature("Credential must have a region."));
    }
    let key_id = credential.map(|credential| credential.key);
    let (account, principal) = match key {
        Some(key) => (AccountId::of_tenant(&key.principal.tenant), key.principal),
        None => {
            let account = key_id.and_then(AccountId::parse).unwrap_or_else(|| AccountId::of_tenant("public"));
            let principal = Principal { tenant: account.tenant().into(), ..Principal::anonymous() };
            (account, principal)
        }
    };
    Ok(Arc::new(Caller {
        namespace: Namespace { tenant: principal.tenant.clone(), space: options.space(region).into() },
        account,
        region: region.into(),
        principal,
        access_key_id: key_id.map(Arc::from),
    }))
}

impl Server {
    /// Whether a request must be signed by a user.
    pub(crate) fn checks_signatures(&self) -> bool {
        self.options.auth == Auth::Verify && self.broker.users().any()
    }
}

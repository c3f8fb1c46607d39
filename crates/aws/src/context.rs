//! Who asks, where they look, and what an operation may use.

use std::{fmt, sync::Arc};

use broker::{Broker, Principal};
use model::{Namespace, StreamKey};

use crate::{
    AwsError, Options, Server,
    door::{Delivery, QueueUrl},
    sqs::LatestQueue,
};

/// Twelve digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(Arc<str>);

/// The account of the tenant `public`.
const DEFAULT: &str = "000000000000";

impl AccountId {
    /// The account as which `tenant` is shown: `public` as zeros, a tenant of twelve digits as itself, and any other as
    /// digits that its name alone decides, so that they never depend on what else exists.
    pub fn of_tenant(tenant: &str) -> AccountId {
        if tenant == "public" {
            return AccountId(DEFAULT.into());
        }
        if is_account(tenant) {
            return AccountId(tenant.into());
        }
        // FNV-1a, as fixed as the aliases of streams are.
        let hash = tenant.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        // Above the zeros, below thirteen digits.
        AccountId(format!("{:012}", 100_000_000_000 + hash % 900_000_000_000).into())
    }

    /// The tenant that the account stands for where no user says otherwise.
    pub(crate) fn tenant(&self) -> &str {
        if &*self.0 == DEFAULT { "public" } else { &self.0 }
    }

    /// The digits.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// `text`, if it is twelve digits.
    pub fn parse(text: &str) -> Option<AccountId> {
        is_account(text).then(|| AccountId(text.into()))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account, of which queue URLs and ARNs speak.
    pub account: AccountId,
    /// The region, from the credential scope, else the default one.
    pub region: Arc<str>,
    /// Tenant and space, which account and region stand for.
    pub namespace: Namespace,
    /// What they may do.
    pub principal: Principal,
    /// The access key that they used, checked or not.
    pub access_key_id: Option<Arc<str>>,
}

/// What an operation is called with beside its input.
pub struct Context {
    pub(crate) server: Arc<Server>,
    pub(crate) caller: Arc<Caller>,
    /// Scheme and host under which the client asked: what queue URLs begin with, without a slash at the end.
    pub(crate) base_url: Arc<str>,
    pub(crate) delivery: Delivery,
    /// Of the connection.
    pub(crate) latest_queue: LatestQueue,
}

impl Context {
    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.server.broker
    }

    /// The dialect's settings.
    pub fn options(&self) -> &Options {
        &self.server.options
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Calls `undo` when the client was gone before the first byte of this operation's answer could be written: when the
    /// operation is dropped because its connection ended, or when its answer finds the connection closed. From that byte
    /// on `undo` is forgotten, whatever becomes of the rest.
    ///
    /// `undo` runs in the middle of other work: it stages something or hands over to a task, and does not block.
    pub fn unless_delivered(&self, undo: impl FnOnce() + Send + 'static) {
        self.delivery.unless_delivered(undo);
    }

    /// The URL under which clients are told of the caller's queue `name`.
    pub fn queue_url(&self, name: &str) -> String {
        QueueUrl::write(&self.base_url, &self.caller.account, name)
    }

    /// The queue that a URL names; its host is of no account. [`AwsError::no_such_queue`] when it belongs to an account
    /// that the caller may not look into.
    pub fn queue(&self, url: &str) -> Result<StreamKey, AwsError> {
        let url = QueueUrl::parse(url)?;
        let namespace = self.namespace(url.account.as_ref(), url.region)?;
        Ok(StreamKey::queue(&namespace, url.name))
    }

    /// The namespace of an account and a region; the caller's own where they are absent.
    pub fn namespace(
        &self,
        account: Option<&AccountId>,
        region: Option<&str>,
    ) -> Result<Namespace, AwsError> {
        let Caller { account: own, region: here, namespace, principal, .. } = &*self.caller;
        let tenant = match account.filter(|account| *account != own) {
            None => namespace.tenant.clone(),
            // Nobody has to prove who they are while nobody can.
            Some(account) if principal.name.is_none() => account.tenant().into(),
            Some(_) => return Err(AwsError::no_such_queue()),
        };
        let space = match region.filter(|region| *region != &**here) {
            None => namespace.space.clone(),
            Some(region) => self.server.options.space(region).into(),
        };
        Ok(Namespace { tenant, space })
    }

    /// The ARN of the caller's queue `name`.
    pub fn queue_arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{name}", self.caller.region, self.caller.account)
    }

    /// The queue that an ARN names, `None` when it is not the ARN of a queue.
    pub fn queue_of_arn(&self, arn: &str) -> Result<Option<StreamKey>, AwsError> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", _partition, "sqs", region, account, name] = parts[..] else { return Ok(None) };
        let Some(account) = AccountId::parse(account).filter(|_| !name.is_empty() && !region.is_empty())
        else {
            return Ok(None);
        };
        Ok(Some(StreamKey::queue(&self.namespace(Some(&account), Some(region))?, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenant_has_an_account_of_twelve_digits() {
        assert_eq!(AccountId::of_tenant("public").text(), "000000000000");
        assert_eq!(AccountId::of_tenant("123456789012").text(), "123456789012");
        let acme = AccountId::of_tenant("acme");
        assert!(is_account(acme.text()), "{acme}");
        assert_ne!(acme, AccountId::of_tenant("acme2"));
    }

    #[test]
    fn an_account_is_a_tenant_of_its_digits() {
        assert_eq!(AccountId::parse("000000000000").unwrap().tenant(), "public");
        assert_eq!(AccountId::parse("123456789012").unwrap().tenant(), "123456789012");
        for wrong in ["", "12345678901", "1234567890123", "12345678901x"] {
            assert_eq!(AccountId::parse(wrong), None, "{wrong}");
        }
    }
}

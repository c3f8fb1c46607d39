//! What each tenant does: the place where quotas are to be kept.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

use crate::metrics::Counter;

/// Tenants that are told apart; what comes after shares one account.
const TENANTS_MAX: usize = 10_000;

/// What one tenant did.
#[derive(Default)]
pub(crate) struct TenantCounters {
    pub appended_records: Counter,
    pub appended_bytes: Counter,
    pub read_bytes: Counter,
}

/// What one tenant did since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Its name.
    pub tenant: Arc<str>,
    /// Records appended.
    pub appended_records: u64,
    /// Bytes of bodies appended.
    pub appended_bytes: u64,
    /// Bytes of bodies read.
    pub read_bytes: u64,
}

/// The accounts.
#[derive(Default)]
pub(crate) struct Tenants {
    by_name: RwLock<BTreeMap<Arc<str>, Arc<TenantCounters>>>,
}

impl Tenants {
    /// The account of a tenant, opened when it is not there.
    pub(crate) fn of(&self, tenant: &Arc<str>) -> Arc<TenantCounters> {
        if let Some(known) = self.by_name.read().get(tenant) {
            return known.clone();
        }
        let mut by_name = self.by_name.write();
        let name = if by_name.len() < TENANTS_MAX { tenant.clone() } else { "(others)".into() };
        by_name.entry(name).or_default().clone()
    }

    pub(crate) fn views(&self) -> Vec<TenantView> {
        let view = |(tenant, counters): (&Arc<str>, &Arc<TenantCounters>)| TenantView {
            tenant: tenant.clone(),
            appended_records: counters.appended_records.value(),
            appended_bytes: counters.appended_bytes.value(),
            read_bytes: counters.read_bytes.value(),
        };
        self.by_name.read().iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::{Namespace, StreamKey};

    use crate::{
        Append, StreamSpec,
        testing::{Rig, batch, wait},
    };

    #[test]
    fn what_a_tenant_publishes_is_on_its_own_account() {
        let rig = Rig::new();
        rig.log("orders", 1);
        let key = StreamKey::log(&Namespace::new("acme", "default"), "orders");
        let stream = wait(rig.broker.create_stream(key, StreamSpec::with_partitions(1))).unwrap();
        rig.publish(Append::new(&stream.partitions()[0], batch(&["a", "b"])));
        let views = rig.broker.tenants();
        let records: Vec<_> = views.iter().map(|view| (&*view.tenant, view.appended_records)).collect();
        assert_eq!(records, [("acme", 2), ("public", 0)]);
    }
}

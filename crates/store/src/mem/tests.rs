use std::sync::Arc;

use parking_lot::Mutex;

use super::{MemWalOptions, MemWalProvider};
use crate::{
    conformance::{WalRig, wal_suite},
    wal::WalProvider,
};

struct Rig(Mutex<MemWalProvider>);

impl WalRig for Rig {
    fn fresh(&self) -> Arc<dyn WalProvider> {
        let options = MemWalOptions { eager: false, ..MemWalOptions::default() };
        *self.0.lock() = MemWalProvider::new(options);
        Arc::new(self.0.lock().clone())
    }

    fn again(&self) -> Arc<dyn WalProvider> {
        Arc::new(self.0.lock().clone())
    }

    fn run(&self) {
        self.0.lock().commit();
    }
}

#[test]
fn the_log_in_memory_conforms() {
    wal_suite(&Rig(Mutex::new(MemWalProvider::new(MemWalOptions::default()))));
}

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Meta, WalMeta};
use crate::{
    Store, StoreOptions,
    conformance::{Hands, MetaRig, meta_suite},
    mem::MemWalOptions,
    testing::{Commands, Scratch, World},
};

/// Over a log in memory.
struct InMemory(Mutex<Option<World>>);

impl MetaRig for InMemory {
    fn fresh(&self) -> Arc<dyn Meta> {
        let wal = MemWalOptions { eager: false, ..MemWalOptions::default() };
        let world = World::new(wal, StoreOptions::default());
        let meta = WalMeta::new(world.store.clone(), world.catalog.clone());
        *self.0.lock() = Some(world);
        Arc::new(meta)
    }

    fn again(&self) -> Arc<dyn Meta> {
        let world = self.0.lock().take().unwrap().crash();
        let meta = WalMeta::new(world.store.clone(), world.catalog.clone());
        *self.0.lock() = Some(world);
        Arc::new(meta)
    }

    fn run(&self) {
        self.0.lock().as_ref().unwrap().settle();
    }

    fn commands(&self) -> Vec<bytes::Bytes> {
        self.0.lock().as_ref().unwrap().catalog.0.lock().1.clone()
    }
}

#[test]
fn the_catalog_over_a_log_in_memory_conforms() {
    meta_suite(&InMemory(Mutex::default()));
}

/// Over a log in files, stepped by hand.
#[derive(Default)]
struct InFiles(Mutex<Option<Opened>>);

struct Opened {
    dir: Scratch,
    hands: Arc<Hands>,
    catalog: Arc<Commands>,
}

impl InFiles {
    fn open(&self, dir: Scratch) -> Arc<dyn Meta> {
        let (hands, catalog) = (Arc::new(Hands::default()), Arc::new(Commands::default()));
        let env = hands.env(env::real().files, 7);
        let (store, _) =
            Store::<()>::open(env, &dir.0, StoreOptions::default(), |_| {}, catalog.clone()).unwrap();
        let meta = WalMeta::new(store, catalog.clone());
        *self.0.lock() = Some(Opened { dir, hands, catalog });
        Arc::new(meta)
    }
}

impl MetaRig for InFiles {
    fn fresh(&self) -> Arc<dyn Meta> {
        self.open(Scratch::new("meta"))
    }

    fn again(&self) -> Arc<dyn Meta> {
        let Opened { dir, hands, .. } = self.0.lock().take().unwrap();
        hands.drop_everything();
        self.open(dir)
    }

    fn run(&self) {
        let hands = self.0.lock().as_ref().unwrap().hands.clone();
        hands.run();
    }

    fn commands(&self) -> Vec<bytes::Bytes> {
        self.0.lock().as_ref().unwrap().catalog.0.lock().1.clone()
    }
}

#[test]
fn the_catalog_over_a_log_in_files_conforms() {
    meta_suite(&InFiles::default());
}

use std::{cell::RefCell, path::PathBuf, sync::Arc};

use env::Files;

use crate::{
    conformance::{Hands, WalRig},
    testing::Scratch,
    wal::{FileWalProvider, WalOptions, WalProvider},
};

/// The file log over real files, stepped by hand.
pub struct Disk {
    pub hands: Arc<Hands>,
    pub scratch: RefCell<Scratch>,
    tune: Box<dyn Fn(&mut WalOptions)>,
}

impl Disk {
    pub fn new(tune: impl Fn(&mut WalOptions) + 'static) -> Self {
        let (hands, scratch) = (Arc::default(), RefCell::new(Scratch::new("wal")));
        Disk { hands, scratch, tune: Box::new(tune) }
    }

    /// A provider over the present folder, with other files underneath.
    pub fn over(&self, files: Arc<dyn Files>) -> Arc<dyn WalProvider> {
        self.hands.drop_everything();
        let mut options = WalOptions::new(self.dir());
        options.file_len = 1 << 20;
        options.first_file_len = 64 << 10;
        (self.tune)(&mut options);
        Arc::new(FileWalProvider::new(self.hands.env(files, env::real().random.u64()), options))
    }

    pub fn dir(&self) -> PathBuf {
        self.scratch.borrow().0.clone()
    }
}

impl WalRig for Disk {
    fn fresh(&self) -> Arc<dyn WalProvider> {
        self.scratch.replace(Scratch::new("wal"));
        self.again()
    }

    fn again(&self) -> Arc<dyn WalProvider> {
        self.over(env::real().files)
    }

    fn run(&self) {
        self.hands.run();
    }
}

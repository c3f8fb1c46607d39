//! Storage that fails: nothing is answered as if it were kept.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::atomic::AtomicBool,
};

use env::{DirEntry, File, Files, LockedDir, Open};

use super::*;

/// The machine's files, whose syncs fail once `fails` is set.
struct Failing {
    files: Arc<dyn Files>,
    fails: Arc<AtomicBool>,
}

struct FailingFile {
    file: Arc<dyn File>,
    fails: Arc<AtomicBool>,
}

impl Files for Failing {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(path, how)?;
        Ok(Arc::new(FailingFile { file, fails: self.fails.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<usize> {
        self.files.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.files.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.files.list(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.files.free_bytes(path)
    }
    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>> {
        self.files.lock_dir(path, holder)
    }
}

impl File for FailingFile {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }
    fn write_all_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.file.write_all_at(parts, at)
    }
    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.sync()
    }
    fn reserve(&self, len: u64) -> io::Result<bool> {
        self.file.reserve(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn forget_cached(&self, at: u64, len: u64) {
        self.file.forget_cached(at, len);
    }
    fn will_need(&self, at: u64, len: u64) {
        self.file.will_need(at, len);
    }
}

/// A rig whose storage fails when that is set.
fn failing() -> (Rig, Arc<AtomicBool>) {
    let mut rig = Rig::new();
    rig.server.broker.close().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let real = env::real();
    let files = Arc::new(Failing { files: real.files.clone(), fails: fails.clone() });
    let env = env::Env { files, ..real };
    rig.server = Server::new(open(env, &rig.dir, BrokerOptions::default()), rig.options.clone());
    (rig, fails)
}

/// The names of the methods until the connection ends.
async fn rest(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((kind, _, payload)) = peer.frame().await {
        assert_eq!(kind, FrameKind::Method);
        let method = format!("{:?}", Method::read(&payload).unwrap());
        let is_close = method.starts_with("ConnectionClose ");
        all.push(method);
        if is_close {
            peer.send(0, Method::ConnectionCloseOk {}).await;
        }
    }
    all
}

#[tokio::test]
async fn a_message_whose_sync_failed_is_not_confirmed() {
    let (rig, fails) = failing();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    fails.store(true, Ordering::SeqCst);
    peer.publish(("", "q"), "a").await;
    let methods = rest(&mut peer).await;
    assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{methods:?}");
}

#[tokio::test]
async fn nothing_is_declared_bound_purged_or_committed_on_storage_that_fails() {
    for what in ["declare", "exchange", "bind", "purge", "commit"] {
        let (rig, fails) = failing();
        let mut peer = rig.connect().await;
        peer.declare("q").await;
        peer.exchange("e", "fanout", &[]).await;
        peer.publish(("", "q"), "a").await;
        peer.sync().await;
        if what == "commit" {
            peer.send(1, Method::TxSelect {}).await;
            peer.expect("TxSelectOk").await;
        }
        fails.store(true, Ordering::SeqCst);
        let (routing_key, arguments) = (crate::codec::Key(b"k"), Table::default());
        match what {
            "declare" => peer.ask_declare("other", Flags::default(), &[]).await,
            "exchange" => peer.ask_exchange("other", "topic", &[]).await,
            "bind" => {
                let (queue, exchange) = ("q", "e");
                let bind =
                    Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
                peer.send(1, bind).await;
            }
            "purge" => peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await,
            _ => {
                peer.publish(("", "q"), "in a transaction").await;
                peer.send(1, Method::TxCommit {}).await;
            }
        }
        let methods = rest(&mut peer).await;
        assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{what}: {methods:?}");
    }
}

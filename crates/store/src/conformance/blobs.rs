//! The suite for [`Blobs`].

use std::sync::Arc;

use bytes::Bytes;
use model::{Error, ErrorKind};

use crate::blobs::Blobs;

/// An implementation under test.
pub trait BlobsRig {
    /// An empty store.
    fn fresh(&self) -> Arc<dyn Blobs>;
    /// Another handle on the last one, as after a restart: what was opened before may be dead.
    fn again(&self) -> Arc<dyn Blobs>;
}

/// Runs every case; panics with the case's words when one fails.
pub fn blobs_suite(rig: &dyn BlobsRig) {
    a_blob_is_read_in_parts_also_after_a_restart(rig);
    a_taken_name_is_refused_and_the_blob_stays_what_it_is(rig);
    a_put_whose_parts_fail_leaves_nothing(rig);
    a_blob_is_seen_once_it_is_finished_and_never_when_it_is_given_up(rig);
    names_are_listed_sorted_by_prefix_with_their_lengths(rig);
    a_removed_blob_stays_readable_through_its_handle(rig);
    reads_past_the_end_and_of_nothing_are_refused(rig);
    a_large_blob_arrives_whole(rig);
}

fn put(blobs: &dyn Blobs, name: &str, parts: &[&'static [u8]]) -> model::Result<u64> {
    blobs.put(name, &mut parts.iter().map(|part| Ok(Bytes::from_static(part))))
}

fn a_blob_is_read_in_parts_also_after_a_restart(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    assert_eq!(put(&*blobs, "a", &[b"hello", b"", b" world"]).unwrap(), 11);
    let check = |blobs: &dyn Blobs| {
        assert_eq!(blobs.read("a", 0, 11).unwrap(), "hello world");
        assert_eq!(blobs.read("a", 4, 3).unwrap(), "o w");
        assert_eq!(blobs.read("a", 11, 0).unwrap(), "");
        let blob = blobs.open("a").unwrap();
        assert_eq!((blob.len(), blob.is_empty()), (11, false));
    };
    check(&*blobs);
    check(&*rig.again());
    put(&*rig.again(), "empty", &[]).unwrap();
    assert!(rig.again().open("empty").unwrap().is_empty());
}

fn a_taken_name_is_refused_and_the_blob_stays_what_it_is(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    put(&*blobs, "a", &[b"first"]).unwrap();
    assert_eq!(put(&*blobs, "a", &[b"second"]).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(blobs.read("a", 0, 5).unwrap(), "first");
    blobs.remove("a").unwrap();
    put(&*blobs, "a", &[b"third"]).unwrap();
    assert_eq!(blobs.read("a", 0, 5).unwrap(), "third");
}

fn a_put_whose_parts_fail_leaves_nothing(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    let mut parts = [Ok(Bytes::from_static(b"half")), Err(Error::unavailable("no more"))].into_iter();
    assert_eq!(blobs.put("a", &mut parts).unwrap_err().kind(), ErrorKind::Unavailable);
    let blobs = rig.again();
    assert_eq!(blobs.list("").unwrap(), vec![]);
    put(&*blobs, "a", &[b"whole"]).unwrap();
}

fn a_blob_is_seen_once_it_is_finished_and_never_when_it_is_given_up(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    let mut given_up = blobs.create("a").unwrap();
    let mut finished = blobs.create("b").unwrap();
    given_up.add(b"half").unwrap();
    finished.add(b"who").unwrap();
    finished.add(b"le").unwrap();
    assert_eq!(blobs.list("").unwrap(), vec![]);
    assert_eq!(blobs.open("b").err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    drop(given_up);
    assert_eq!(finished.finish().unwrap(), 5);
    assert_eq!(blobs.create("b").err().map(|e| e.kind()), Some(ErrorKind::Exists));
    let blobs = rig.again();
    assert_eq!(blobs.list("").unwrap(), vec![("b".to_owned(), 5)]);
    assert_eq!(blobs.read("b", 0, 5).unwrap(), "whole");
}

fn names_are_listed_sorted_by_prefix_with_their_lengths(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    for (name, part) in [("seg-2", b"22".as_slice()), ("seg-10", b"1"), ("ckpt-1", b"333")] {
        blobs.put(name, &mut std::iter::once(Ok(Bytes::from_static(part)))).unwrap();
    }
    let named = |entries: &[(&str, u64)]| -> Vec<(String, u64)> {
        entries.iter().map(|(name, len)| ((*name).to_owned(), *len)).collect()
    };
    assert_eq!(blobs.list("seg-").unwrap(), named(&[("seg-10", 1), ("seg-2", 2)]));
    assert_eq!(blobs.list("").unwrap(), named(&[("ckpt-1", 3), ("seg-10", 1), ("seg-2", 2)]));
    assert_eq!(blobs.list("other").unwrap(), vec![]);
}

fn a_removed_blob_stays_readable_through_its_handle(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    put(&*blobs, "a", &[b"pinned"]).unwrap();
    let handle = blobs.open("a").unwrap();
    blobs.remove("a").unwrap();
    blobs.remove("a").unwrap();
    assert_eq!(handle.read(0, 6).unwrap(), "pinned");
    assert_eq!(blobs.open("a").err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    assert_eq!(blobs.list("").unwrap(), vec![]);
}

fn reads_past_the_end_and_of_nothing_are_refused(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    put(&*blobs, "a", &[b"12345"]).unwrap();
    for (at, len) in [(0, 6), (5, 1), (u64::MAX, 1), (6, 0)] {
        assert_eq!(blobs.read("a", at, len).unwrap_err().kind(), ErrorKind::Invalid, "{at} {len}");
    }
    assert_eq!(blobs.read("b", 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_large_blob_arrives_whole(rig: &dyn BlobsRig) {
    let blobs = rig.fresh();
    let part = |i: u8| Bytes::from(vec![i; 1 << 20]);
    blobs.put("large", &mut (0..5).map(|i| Ok(part(i)))).unwrap();
    let blobs = rig.again();
    for i in 0..5u8 {
        assert_eq!(blobs.read("large", u64::from(i) << 20, 1 << 20).unwrap(), part(i));
    }
}

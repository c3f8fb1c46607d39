//! What `wiremill repair` opens: a directory whose log lost one frame, whichever it is.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use cursor::HolderId;
use env::Env;
use model::{ErrorKind, Formats, Kind, LogId, Namespace, Offset, PartitionIndex, Result, StreamKey};

use crate::{
    Allowance, Append, Broker, BrokerOptions, Claim, LeaseAsk, LeaseKind, LeaseTime, Mode, PublishUnit,
    Settlement, StreamSettings, StreamSpec, Verdict, Work, WorkSpec,
    plain::Plain,
    testing::{batch, key, wait},
};

const PAGE_LEN: u64 = 4096;

/// Files that hold frames lie in here, preallocated.
const WAL_FILE_LEN: u64 = 4 << 20;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let number = env::real().random.u64();
        Scratch(std::env::temp_dir().join(format!("wm-broker-repair-{name}-{number}")))
    }

    fn copied(&self) -> Scratch {
        let copy = Scratch::new("copy");
        for folder in ["", "wal", "blobs"] {
            fs::create_dir_all(copy.0.join(folder)).unwrap();
            for entry in fs::read_dir(self.0.join(folder)).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), copy.0.join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
        copy
    }

    fn first_file(&self) -> PathBuf {
        self.0.join("wal").join(format!("{:020}.wal", 1))
    }

    /// Pages of the log's first file that begin with something.
    fn pages(&self) -> Vec<u64> {
        let mut bytes = Vec::new();
        fs::File::open(self.first_file()).unwrap().read_to_end(&mut bytes).unwrap();
        let pages = bytes.chunks(PAGE_LEN as usize).enumerate().skip(1);
        pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(nth, _)| nth as u64).collect()
    }

    /// One bit in the body of the frame that begins with this page.
    fn flip(&self, page: u64) {
        let mut file = fs::File::options().read(true).write(true).open(self.first_file()).unwrap();
        let (at, mut byte) = (page * PAGE_LEN + 70, [0]);
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte[0] ^ 1]).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn open(dir: &Path, tolerate_damage: bool) -> Result<(Broker, Vec<String>)> {
    let mut formats = Formats::default();
    formats.register(Arc::new(Plain))?;
    let options = BrokerOptions { tolerate_damage, wal_file_len: WAL_FILE_LEN, ..BrokerOptions::default() };
    let env: Env = env::real();
    Broker::open(env, dir, options, formats).map(|(broker, report)| (broker, report.damaged))
}

fn queue(name: &str) -> StreamKey {
    StreamKey { kind: Kind::Queue, ..key(name) }
}

fn append(broker: &Broker, key: &StreamKey) -> (LogId, Offset) {
    let partition = broker.stream(key).unwrap().partitions()[0].clone();
    let published = broker.publish(PublishUnit::of(vec![Append::new(&partition, batch(&["a"]))])).unwrap();
    wait(broker.durable(published.wait)).unwrap();
    (partition.log_id(), partition.bounds().end)
}

fn lease_and_settle(broker: &Broker, work: &Work) {
    let (holder, allowance) = (HolderId(1), Allowance::records(1));
    let ask = LeaseAsk { holder, allowance, kind: LeaseKind::Recorded, time: LeaseTime::Setting };
    let leased = wait(work.lease(ask)).unwrap();
    wait(broker.durable(leased.wait)).unwrap();
    let spans =
        leased.deliveries.iter().flat_map(|delivery| delivery.runs.iter().map(|run| run.span)).collect();
    let settlement = Settlement { work: work.clone(), spans, claim: Claim::Anyone, verdict: Verdict::Accept };
    let (_, seq) = wait(broker.settle(vec![settlement])).unwrap();
    wait(broker.durable(seq)).unwrap();
}

/// Something of everything that rests on something else, each in a commit of its own. Where each log ends.
fn workload(broker: &Broker) -> BTreeMap<LogId, Offset> {
    let create = |key: StreamKey, settings: StreamSettings| {
        let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
        wait(broker.create_stream(key, spec)).unwrap()
    };
    let mut ends = BTreeMap::new();
    let jobs = create(queue("jobs"), StreamSettings { mode: Mode::Queue, ..StreamSettings::default() });
    let (work, seq) = broker.queue_work(&jobs.partitions()[0]).unwrap();
    wait(broker.durable(seq)).unwrap();
    for _ in 0..3 {
        ends.extend([append(broker, &queue("jobs"))]);
    }
    lease_and_settle(broker, &work);
    let alter = |settings: &mut StreamSettings| {
        settings.delivery_limit = Some(3);
        Ok(())
    };
    wait(broker.alter_stream(&queue("jobs"), alter)).unwrap();

    let base = create(key("base"), StreamSettings::default());
    ends.extend([append(broker, &key("base"))]);
    wait(broker.add_partitions(&key("base"), 2)).unwrap();
    let over = create(queue("over"), StreamSettings { over: Some(key("base")), ..StreamSettings::default() });
    let (work, seq) = broker.stream_work(&over, PartitionIndex(0)).unwrap();
    wait(broker.durable(seq)).unwrap();
    lease_and_settle(broker, &work);
    let filtered = WorkSpec { filter: vec!["a.*".to_owned()], ..WorkSpec::default() };
    let (work, seq) = broker.open_work(&base.partitions()[0], "filtered", filtered).unwrap();
    wait(broker.durable(seq)).unwrap();
    wait(broker.durable(work.close().unwrap())).unwrap();

    create(key("gone"), StreamSettings::default());
    append(broker, &key("gone"));
    wait(broker.delete_stream(&key("gone"))).unwrap();
    create(key("gone"), StreamSettings::default());
    ends.extend([append(broker, &key("gone"))]);
    ends.extend([append(broker, &key("base"))]);
    ends
}

#[test]
fn whichever_frame_is_lost_a_repair_opens_the_directory_and_gives_no_offset_out_again() {
    let scratch = Scratch::new("whole");
    let (broker, _) = open(&scratch.0, false).unwrap();
    let ends = workload(&broker);
    let pages = scratch.pages();
    assert!(pages.len() > 20, "{pages:?}");
    let copies: Vec<_> = pages.iter().map(|page| (*page, scratch.copied())).collect();
    broker.close().unwrap();
    let mut repaired = 0;
    for (page, copy) in copies {
        copy.flip(page);
        let refused = match open(&copy.0, false) {
            Ok(_) => continue, // An empty frame, or the last one.
            Err(refused) => refused,
        };
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "page {page}: {refused}");
        let (broker, damaged) = open(&copy.0, true).unwrap_or_else(|e| panic!("page {page}: {e}"));
        assert!(!damaged.is_empty(), "page {page}");
        for stream in broker.streams(&Namespace::default(), None) {
            let Some(partition) = stream.partition(PartitionIndex(0)) else { continue };
            let (log, end) = (partition.log_id(), append(&broker, stream.key()).1);
            assert!(ends.get(&log).is_none_or(|before| end > *before), "page {page}, log {log}: {damaged:?}");
        }
        broker.close().unwrap();
        drop(broker);
        open(&copy.0, false).unwrap_or_else(|e| panic!("page {page}, once it was repaired: {e}"));
        repaired += 1;
    }
    assert!(repaired > 20, "{repaired}");
}

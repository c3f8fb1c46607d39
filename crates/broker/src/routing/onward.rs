//! From targets to appends: which stream takes which record and under which keys, and who is served on the spot.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use model::{Attributes, Batch, Kind, Namespace, Record, RecordAttributes, Result, StreamId};
use route::HOPS_MAX;

use super::{
    addresses::{Address, Entered, Entering, Laying, Live, Records},
    cache::{Approach, Goal, Routed},
};
use crate::{
    broker::Broker,
    publish::{Append, Follower, NewBatch, PublishUnit, Replaces},
    stream::Stream,
};

/// Where a batch goes along routes.
#[derive(Default)]
pub struct Onward {
    /// Copies of it, or of some of its records.
    pub appends: Vec<Append>,
    /// Who is served on the spot.
    pub live: Vec<Live>,
}

impl Onward {
    /// Adds everything to a unit, to go with its append at index `of`.
    pub fn follow(self, of: usize, unit: &mut PublishUnit) {
        unit.followers.extend(self.appends.into_iter().map(|append| Follower { of, append }));
        unit.live.extend(self.live.into_iter().map(|live| Live { of: Some(of), ..live }));
    }

    /// Adds everything to a unit, each copy as an append of its own.
    pub fn join(self, unit: &mut PublishUnit) {
        unit.appends.extend(self.appends);
        unit.live.extend(self.live);
    }
}

impl Broker {
    /// Where a batch goes from its address along `targets`: each record into each stream once, and none of them into
    /// those in `already`. Where a stream has several partitions, each record goes where its key belongs there (the
    /// route's, else its own), and records without a key to the partition that ends first; the bytes stay as they are
    /// unless that parts them, or the dialect of an address stores what enters there in its own way.
    /// [`model::ErrorKind::Corrupt`] when they have to be read and do not.
    pub fn onward(&self, targets: &[Routed], batch: &NewBatch, already: &[Arc<Stream>]) -> Result<Onward> {
        let mut out = Onward::default();
        let mut taken: BTreeSet<StreamId> = already.iter().map(|stream| stream.id()).collect();
        for target in targets {
            let Goal::Stream(stream) = &target.to else { continue };
            if taken.insert(stream.id()) {
                let mut copy = copy_for(stream, batch);
                if let Some(key) = &target.key {
                    copy.attributes = with_key(&batch.attributes, key);
                }
                self.append_to(stream, copy, &mut out)?;
            }
        }
        if targets.iter().any(|target| matches!(target.to, Goal::Address(_))) {
            let stored = batch.as_stored();
            let records = Records::new(self, &stored);
            let mut walk = Walk::new(self, batch, &stored, &records, taken);
            let all: Vec<u32> = (0..batch.count).collect();
            walk.follow(targets, &all, 0)?;
            walk.run()?;
            walk.finish(&mut out)?;
        }
        Ok(out)
    }

    fn append_to(&self, stream: &Stream, batch: NewBatch, out: &mut Onward) -> Result<()> {
        let spread = self.spread(stream, batch)?.into_iter();
        out.appends.extend(spread.map(|(partition, batch)| Append::new(&partition, batch)));
        Ok(())
    }
}

/// A batch as its copy in another stream begins. What a queue is to keep in memory alone, a log stores as it stores
/// everything.
fn copy_for(stream: &Stream, batch: &NewBatch) -> NewBatch {
    NewBatch {
        producer: None,
        replaces: Replaces::Nothing,
        durability: batch.durability.filter(|_| stream.key().kind == Kind::Queue),
        ..batch.clone()
    }
}

fn with_key(attributes: &Attributes, key: &Bytes) -> Attributes {
    let keyed = |row: &RecordAttributes| RecordAttributes { record_key: Some(key.clone()), ..row.clone() };
    match attributes {
        Attributes::None => Attributes::Same(Box::new(keyed(&RecordAttributes::default()))),
        Attributes::Same(row) => Attributes::Same(Box::new(keyed(row))),
        Attributes::Rows(rows) => Attributes::Rows(rows.iter().map(keyed).collect()),
    }
}

/// A record on its way into a stream.
struct Landing {
    index: u32,
    /// Where it entered and the route key that it has in the stream; `None` = it comes as it is.
    entered: Option<(Address, Bytes)>,
    key: Option<Bytes>,
}

/// What goes into one stream.
struct Landed {
    stream: Arc<Stream>,
    rows: Vec<Landing>,
}

/// Records at one address, which are still to enter.
struct Open {
    address: Address,
    indices: Vec<u32>,
    /// The record key that they get behind it.
    key: Option<Bytes>,
    depth: usize,
}

/// Who is served on the spot with which records under which names, by dialect and namespace.
type Served = BTreeMap<(Arc<str>, Namespace), Vec<(u32, Bytes)>>;

/// A batch on its way from address to address.
struct Walk<'a> {
    broker: &'a Broker,
    batch: &'a NewBatch,
    stored: &'a Batch,
    records: &'a Records<'a>,
    /// Streams that have every record already.
    taken: BTreeSet<StreamId>,
    open: VecDeque<Open>,
    /// Which records were at which address.
    visited: BTreeSet<(u32, Address)>,
    landed: BTreeMap<StreamId, Landed>,
    live: Served,
    /// The keys of the records, once they were asked for.
    keys: Option<Vec<Option<Bytes>>>,
}

impl<'a> Walk<'a> {
    fn new(
        broker: &'a Broker,
        batch: &'a NewBatch,
        stored: &'a Batch,
        records: &'a Records<'a>,
        taken: BTreeSet<StreamId>,
    ) -> Self {
        Walk {
            broker,
            batch,
            stored,
            records,
            taken,
            open: VecDeque::new(),
            visited: BTreeSet::new(),
            landed: BTreeMap::new(),
            live: BTreeMap::new(),
            keys: None,
        }
    }

    /// Sends records along routes from where they are, `depth` hops from their publish.
    fn follow(&mut self, targets: &[Routed], indices: &[u32], depth: usize) -> Result<()> {
        for target in targets {
            match &target.to {
                Goal::Stream(stream) => {
                    for index in indices {
                        self.land(stream, *index, None, target.key.clone());
                    }
                }
                Goal::Address(_) if depth >= HOPS_MAX => {}
                Goal::Address(approach) => {
                    self.approach(approach, target.key.as_ref(), indices, depth + 1)?
                }
            }
        }
        Ok(())
    }

    /// Puts records before the addresses that they go to.
    fn approach(
        &mut self,
        approach: &Approach,
        key: Option<&Bytes>,
        indices: &[u32],
        depth: usize,
    ) -> Result<()> {
        // Where they come from they do not enter again.
        self.visited.extend(indices.iter().map(|index| (*index, approach.from.clone())));
        let entrance = &approach.entrance;
        let address = |name: Bytes| Address {
            dialect: entrance.dialect.as_str().into(),
            namespace: entrance.namespace.clone(),
            scope: entrance.scope.as_deref().map(Into::into),
            name,
        };
        let push = |name: Option<Bytes>, indices: Vec<u32>, walk: &mut Self| match name {
            Some(name) => {
                walk.open.push_back(Open { address: address(name), indices, key: key.cloned(), depth });
            }
            None => walk.broker.inner.counters.unroutable_records.add(indices.len() as u64),
        };
        if !approach.template().needs_key() {
            push(approach.name(None), indices.to_vec(), self);
            return Ok(());
        }
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => self.broker.keys_of(self.batch)?,
        };
        let mut by_name: BTreeMap<Option<Bytes>, Vec<u32>> = BTreeMap::new();
        for index in indices {
            let own = keys.get(*index as usize).and_then(Option::as_deref);
            by_name.entry(approach.name(own)).or_default().push(*index);
        }
        self.keys = Some(keys);
        by_name.into_iter().for_each(|(name, indices)| push(name, indices, self));
        Ok(())
    }

    /// Until every record is where it goes.
    fn run(&mut self) -> Result<()> {
        while let Some(Open { address, mut indices, key, depth }) = self.open.pop_front() {
            indices.retain(|index| self.visited.insert((*index, address.clone())));
            if indices.is_empty() {
                continue;
            }
            let Some(space) = self.broker.addresses(&address.dialect) else { continue };
            let entering = Entering { address: &address, headers: None };
            match space.enter(&entering)? {
                Some(entered) if entered.needs_headers => {
                    for index in indices {
                        let headers = Some(&self.records.of(index)?.headers[..]);
                        if let Some(entered) = space.enter(&Entering { headers, ..entering })? {
                            self.enter(&address, entered, &[index], key.as_ref(), depth)?;
                        }
                    }
                }
                Some(entered) => self.enter(&address, entered, &indices, key.as_ref(), depth)?,
                None => self.broker.inner.counters.unroutable_records.add(indices.len() as u64),
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        address: &Address,
        entered: Entered,
        indices: &[u32],
        key: Option<&Bytes>,
        depth: usize,
    ) -> Result<()> {
        for (stream, route_key) in &entered.streams {
            for index in indices {
                self.land(stream, *index, Some((address.clone(), route_key.clone())), key.cloned());
            }
        }
        if entered.is_live {
            let whose = (address.dialect.clone(), address.namespace.clone());
            let served = indices.iter().map(|index| (*index, address.name.clone()));
            self.live.entry(whose).or_default().extend(served);
        }
        for reached in std::iter::once(address).chain(&entered.reached) {
            let (scope, name) = (reached.scope.as_deref(), &reached.name);
            let further = self.broker.routed_in(&reached.namespace, &reached.dialect, scope, name);
            self.follow(&further, indices, depth)?;
        }
        Ok(())
    }

    fn land(
        &mut self,
        stream: &Arc<Stream>,
        index: u32,
        entered: Option<(Address, Bytes)>,
        key: Option<Bytes>,
    ) {
        if self.taken.contains(&stream.id()) {
            return;
        }
        let new = || Landed { stream: stream.clone(), rows: Vec::new() };
        let landed = self.landed.entry(stream.id()).or_insert_with(new);
        landed.rows.push(Landing { index, entered, key });
    }

    fn finish(self, out: &mut Onward) -> Result<()> {
        for Landed { stream, mut rows } in self.landed.into_values() {
            // The first way there counts, as of two routes the older.
            rows.sort_by_key(|row| row.index);
            rows.dedup_by_key(|row| row.index);
            // What enters at an address and what comes as it is are batches of their own.
            for rows in rows.chunk_by(is_alike) {
                let copy = lay(self.broker, &stream, self.batch, (self.stored, self.records), rows)?;
                self.broker.append_to(&stream, copy, out)?;
            }
        }
        for ((dialect, namespace), mut served) in self.live {
            let Some(by) = self.broker.addresses(&dialect) else { continue };
            served.sort_by_key(|(index, _)| *index);
            let record = |(index, name): (u32, Bytes)| Ok((name, self.records.of(index)?.clone()));
            let records = served.into_iter().map(record).collect::<Result<Vec<(Bytes, Record)>>>()?;
            out.live.push(Live { of: None, by, namespace, records });
        }
        Ok(())
    }
}

fn is_alike(one: &Landing, other: &Landing) -> bool {
    let dialect = |row: &Landing| row.entered.as_ref().map(|(address, _)| address.dialect.clone());
    dialect(one) == dialect(other)
}

/// The batch of these rows as it goes into a stream.
fn lay(
    broker: &Broker,
    stream: &Stream,
    batch: &NewBatch,
    (stored, records): (&Batch, &Records<'_>),
    rows: &[Landing],
) -> Result<NewBatch> {
    let own = own_way(broker, stream, (stored, records), rows)?;
    let is_own = own.is_some();
    let mut copy = match own {
        Some(own) => own,
        None if rows.len() == batch.count as usize => copy_for(stream, batch),
        None => {
            let picked: Result<Vec<(u32, Record)>> =
                rows.iter().map(|row| Ok((row.index, records.of(row.index)?.clone()))).collect();
            broker.part(&copy_for(stream, batch), picked?)?
        }
    };
    let row = |(at, landing): (u32, &Landing)| {
        let index = if is_own { at } else { landing.index };
        let given = if is_own { copy.attributes.of(index) } else { batch.attributes.of(index) };
        let mut row = given.cloned().unwrap_or_default();
        if !is_own && let Some((_, route_key)) = &landing.entered {
            row.route_key = Some(route_key.clone());
        }
        row.record_key = landing.key.clone().or(row.record_key);
        row
    };
    let all: Vec<RecordAttributes> = (0..).zip(rows).map(row).collect();
    copy.attributes = match all.first() {
        Some(first) if all.iter().all(|row| row == first) => {
            if *first == RecordAttributes::default() {
                Attributes::None
            } else {
                Attributes::Same(Box::new(first.clone()))
            }
        }
        _ => Attributes::Rows(all.into()),
    };
    Ok(copy)
}

/// The rows as the dialect of their addresses stores them, where it has a way of its own.
fn own_way(
    broker: &Broker,
    stream: &Stream,
    (stored, records): (&Batch, &Records<'_>),
    rows: &[Landing],
) -> Result<Option<NewBatch>> {
    let entered: Option<Vec<(u32, Address, Bytes)>> = rows
        .iter()
        .map(|row| row.entered.clone().map(|(address, route_key)| (row.index, address, route_key)))
        .collect();
    let Some(entered) = entered else { return Ok(None) };
    let space = entered.first().and_then(|(_, address, _)| broker.addresses(&address.dialect));
    match space {
        Some(space) => space.lay(&Laying { stream, batch: stored, rows: &entered, records }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod address_tests;
#[cfg(test)]
mod tests;

//! What a dialect tells of its address space, so that routes lead there: where a record goes that enters at an address,
//! and who is served on the spot.

use std::{cell::OnceCell, sync::Arc};

use bytes::Bytes;
use model::{Batch, Error, Header, Namespace, Record, Result, StreamKey};

use crate::{NewBatch, Stream, broker::Broker};

/// An address within one dialect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Which dialect.
    pub dialect: Arc<str>,
    /// Where it is.
    pub namespace: Namespace,
    /// What the name lies in, where the dialect has such.
    pub scope: Option<Arc<str>>,
    /// The name.
    pub name: Bytes,
}

/// What enters at an address, as far as the way on from there may depend on it.
#[derive(Clone, Copy)]
pub struct Entering<'a> {
    /// Where.
    pub address: &'a Address,
    /// The headers of the one record that enters; `None` while they were not asked for.
    pub headers: Option<&'a [Header]>,
}

/// Where records go that entered.
#[derive(Default)]
pub struct Entered {
    /// The streams that store them, each with the route key that they have there.
    pub streams: Vec<(Arc<Stream>, Bytes)>,
    /// Addresses of the same dialect that the records reach as well: routes lead on from there, too.
    pub reached: Vec<Address>,
    /// Whether somebody is to be served on the spot.
    pub is_live: bool,
    /// Whether it depends on the headers of each record: the dialect is asked again, with them.
    pub needs_headers: bool,
}

/// Records on their way into one stream, for a dialect that stores what enters in its own way.
pub struct Laying<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// The batch that they are in.
    pub batch: &'a Batch,
    /// Those of its records that enter, ascending, each with its address and its route key in the stream.
    pub rows: &'a [(u32, Address, Bytes)],
    pub(crate) records: &'a Records<'a>,
}

impl Laying<'_> {
    /// A record of the batch, as every dialect understands it.
    pub fn record(&self, index: u32) -> Result<&Record> {
        self.records.of(index)
    }
}

/// The records of a batch, read when the first is asked for.
pub(crate) struct Records<'a> {
    broker: &'a Broker,
    batch: &'a Batch,
    read: OnceCell<Vec<Record>>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(broker: &'a Broker, batch: &'a Batch) -> Self {
        Records { broker, batch, read: OnceCell::new() }
    }

    pub(crate) fn of(&self, index: u32) -> Result<&Record> {
        if self.read.get().is_none() {
            let mut all = Vec::new();
            let mut is_whole = true;
            self.broker.formats().read(self.batch, &mut |index, record| {
                is_whole &= index as usize == all.len();
                all.push(record);
                Ok(())
            })?;
            if !is_whole {
                return Err(Error::corrupt("a batch that is published lacks records"));
            }
            // Nobody else can have set it.
            let _known = self.read.set(all);
        }
        let found = self.read.get().and_then(|all| all.get(index as usize));
        found.ok_or_else(|| Error::corrupt("a batch has fewer records than it says"))
    }
}

/// Who would get a record that enters at an address, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The stream that stores it.
    pub stream: Option<StreamKey>,
    /// Who is served on the spot, or where it goes on: where there is no stream.
    pub who: Option<String>,
    /// Why.
    pub why: String,
}

/// The address space of a dialect; see [`Broker::register_addresses`]. No lock of a stream is held while it is asked.
pub trait Addresses: Send + Sync {
    /// Whether its names lie in scopes: an address is then written `dialect:scope/name`.
    fn is_scoped(&self) -> bool {
        false
    }

    /// Whether a route may lead to addresses of this template, whose braces stand for what is not known yet.
    /// [`model::ErrorKind::NotFound`] when there is nothing to enter.
    fn check(&self, namespace: &Namespace, scope: Option<&str>, template: &str) -> Result<()>;

    /// Whether routes may begin at the addresses of a pattern.
    fn check_source(&self, pattern: &str) -> Result<()> {
        let _ = pattern;
        Ok(())
    }

    /// Where records go that enter at an address; `None` when it is no address.
    fn enter(&self, entering: &Entering<'_>) -> Result<Option<Entered>>;

    /// The records as the dialect stores what enters there; `None`: as they are, under their route keys.
    fn lay(&self, laying: &Laying<'_>) -> Result<Option<NewBatch>>;

    /// Serves those who are served on the spot. It does not wait for them.
    fn serve(&self, namespace: &Namespace, records: &[(Bytes, Record)]);

    /// Who would get a record that enters at an address, beside the routes that people added.
    fn explain(&self, address: &Address) -> Result<Vec<Reached>>;
}

/// Records for those whom a dialect serves on the spot, once what they go with is staged.
pub struct Live {
    /// Which append of the unit they go with, by index: they are served only if it is not refused and no duplicate.
    /// `None` = whatever becomes of the unit's appends.
    pub of: Option<usize>,
    pub(crate) by: Arc<dyn Addresses>,
    pub(crate) namespace: Namespace,
    pub(crate) records: Vec<(Bytes, Record)>,
}

impl Live {
    pub(crate) fn serve(&self) {
        self.by.serve(&self.namespace, &self.records);
    }
}

impl Broker {
    /// Registers the address space of `dialect`: routes lead there from now on.
    pub fn register_addresses(&self, dialect: &'static str, by: Arc<dyn Addresses>) {
        self.inner.addresses.write().insert(dialect, by);
    }

    /// The address space of a dialect.
    pub fn addresses(&self, dialect: &str) -> Option<Arc<dyn Addresses>> {
        self.inner.addresses.read().get(dialect).cloned()
    }
}

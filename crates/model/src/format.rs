//! The format registry: how one dialect's stored bytes become records, and records become its bytes.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{Attributes, Batch, Error, FormatTag, Record, RecordAttributes, Result};

/// One dialect's batch format. Registered once at start; the spine and the other dialects see only this.
pub trait Format: Send + Sync + 'static {
    /// The tag stored with each batch. Fixed for ever once a release wrote it.
    fn tag(&self) -> FormatTag;

    /// A name for people, e.g. in error texts.
    fn name(&self) -> &'static str;

    /// Calls `each(index, record)` for every record of the batch, in offset order; `index` counts from the batch's
    /// base, and indices may be missing (a gap). Stops at the first error, which is [`crate::ErrorKind::Corrupt`]
    /// when the bytes do not read, or whatever `each` returned.
    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()>;

    /// The attributes of every record (route key, record key, event time, body length …), for batches whose dialect
    /// handed none over. Same order and indices as [`Format::read`].
    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()>;

    /// Times and lengths of every record, for whoever wants neither keys nor names of what may be many. Same order and
    /// indices as [`Format::read`].
    fn outlines(&self, batch: &Batch, each: &mut dyn FnMut(u32, Outline) -> Result<()>) -> Result<()> {
        self.attributes(batch, &mut |index, row| {
            each(index, Outline { event_time_ms: row.event_time_ms, body_len: row.body_len })
        })
    }

    /// Lays `records` out as the body of one batch of this format.
    fn write(&self, records: &[Record]) -> Result<Bytes>;

    /// The batch's bytes without the records whose `keep` is false (indices from the base); the kept ones hold their
    /// offsets. `None` when nothing is left.
    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>>;

    /// The record at `index` as the body of a batch of its own, with its own bytes; looks from `place` on, and leaves it
    /// behind the record. `None` = it has to be read and written.
    fn alone(&self, _batch: &Batch, _index: u32, _place: &mut Place) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

/// Where a reader of a batch is, in its format's terms: what follows is not looked for from the start again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the body that are behind it.
    pub at: usize,
    /// The lowest index that may come next.
    pub next: u32,
}

/// What [`Format::outlines`] tells of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Its producer's time, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
    /// Length of its body, bytes.
    pub body_len: Option<u32>,
}

/// Every format this process knows, by tag.
#[derive(Clone, Default)]
pub struct Formats {
    by_tag: BTreeMap<FormatTag, Arc<dyn Format>>,
}

impl Formats {
    /// Registers `format`. Two formats of one tag are a bug of the binary: [`crate::ErrorKind::Internal`].
    pub fn register(&mut self, format: Arc<dyn Format>) -> Result<()> {
        let tag = format.tag();
        match self.by_tag.insert(tag, format) {
            None => Ok(()),
            Some(_) => Err(Error::internal(format!("two formats are registered as tag {tag}"))),
        }
    }

    /// The format of `tag`. A tag without a format is reported, never skipped: [`crate::ErrorKind::Corrupt`].
    pub fn of(&self, tag: FormatTag) -> Result<&Arc<dyn Format>> {
        self.by_tag.get(&tag).ok_or_else(|| Error::corrupt(format!("no format is registered for tag {tag}")))
    }

    /// [`Format::read`] of the batch's own format. Where the batch has a record key or route key beside its bytes (a
    /// route gave it one), that is the record's.
    pub fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        let format = self.of(batch.format)?;
        if matches!(batch.attributes, Attributes::None) {
            return format.read(batch, each);
        }
        format.read(batch, &mut |index, mut record| {
            if let Some(row) = batch.attributes.of(index) {
                record.key = row.record_key.clone().or(record.key);
                record.route_key = row.route_key.clone().or(record.route_key);
            }
            each(index, record)
        })
    }
}

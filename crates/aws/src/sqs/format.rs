//! SQS's messages in the format registry: what other dialects read of them, and what SQS's clients read of theirs.

use std::sync::Arc;

use broker::NewBatch;
use bytes::Bytes;
use model::{Attributes, Batch, Format, FormatTag, Record, RecordAttributes, Result};
use wire::Writer;

use super::{
    foreign,
    message::{Message, body_of, read, split, sums_of},
};

/// The tag that stored batches carry. Fixed for ever.
pub(crate) const FORMAT: FormatTag = FormatTag(3);

/// The format, to be registered at start.
pub fn format() -> Arc<dyn Format> {
    Arc::new(SqsFormat)
}

struct SqsFormat;

/// One batch of records that come without a client of this dialect: the admin API and routes publish with it.
pub fn compose(records: &[Record]) -> Result<NewBatch> {
    let messages: Vec<Message<'_>> = records.iter().map(foreign::from_record).collect();
    Ok(NewBatch {
        count: u32::try_from(records.len()).unwrap_or(u32::MAX),
        format: FORMAT,
        attributes: Attributes::Rows(messages.iter().map(row_of).collect()),
        body: SqsFormat.write(records)?,
        ..NewBatch::default()
    })
}

impl Format for SqsFormat {
    fn tag(&self) -> FormatTag {
        FORMAT
    }

    fn name(&self) -> &'static str {
        "sqs message"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        split(batch, |index, record| {
            let (message, _) = read(record)?;
            each(index, Record { append_time_ms: batch.append_time_ms, ..foreign::to_record(&message) })
        })
    }

    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()> {
        split(batch, |index, record| {
            let (message, _) = read(record)?;
            each(index, row_of(&message))
        })
    }

    fn write(&self, records: &[Record]) -> Result<Bytes> {
        let messages: Vec<Message<'_>> = records.iter().map(foreign::from_record).collect();
        let sums = sums_of(messages.iter());
        Ok(body_of(messages.iter().zip(&sums)))
    }

    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>> {
        let mut out = Writer::new();
        split(batch, |index, record| {
            if keep(index) {
                let index = u64::from(index);
                out.uvarint((wire::uvarint_len(index) + record.len()) as u64);
                out.uvarint(index);
                out.slice(record);
            }
            Ok(())
        })?;
        Ok((!out.is_empty()).then(|| out.into_bytes()))
    }
}

/// What the broker decides on, of one message.
pub(crate) fn row_of(message: &Message<'_>) -> RecordAttributes {
    RecordAttributes {
        ordering_key: message.group_id.as_deref().map(|group| Bytes::copy_from_slice(group.as_bytes())),
        body_len: Some(u32::try_from(message.len()).unwrap_or(u32::MAX)),
        ..RecordAttributes::default()
    }
}

#[cfg(test)]
mod tests {
    use model::{Header, HeaderValue, Offset};

    use super::*;
    use crate::sqs::message::find;

    fn batch(body: Bytes, count: u32) -> Batch {
        Batch::bare(FORMAT, Offset(0), count, 9, body)
    }

    fn records(batch: &Batch) -> Vec<(u32, Record)> {
        let mut all = Vec::new();
        SqsFormat
            .read(batch, &mut |index, record| {
                all.push((index, record));
                Ok(())
            })
            .unwrap();
        all
    }

    fn record(body: &'static str) -> Record {
        Record { body: Some(Bytes::from_static(body.as_bytes())), append_time_ms: 9, ..Record::default() }
    }

    #[test]
    fn a_record_that_is_gone_leaves_the_others_where_they_are() {
        let whole = batch(SqsFormat.write(&[record("a"), record("b"), record("c")]).unwrap(), 3);
        let rest = SqsFormat.without(&whole, &|index| index != 1).unwrap().unwrap();
        let rest = Batch { body: rest, ..whole };
        assert_eq!(records(&rest), [(0, record("a")), (2, record("c"))]);
        assert_eq!(SqsFormat.without(&rest, &|_| false).unwrap(), None);
    }

    #[test]
    fn the_group_is_the_ordering_key_and_the_key_that_others_see() {
        let keyed = Record { key: Some(Bytes::from_static(b"g")), ..record("a") };
        let stored = batch(SqsFormat.write(std::slice::from_ref(&keyed)).unwrap(), 1);
        assert_eq!(find(&stored, 0).unwrap().unwrap().0.group_id.as_deref(), Some("g"));
        assert_eq!(records(&stored), [(0, keyed)]);
        let mut rows = Vec::new();
        SqsFormat
            .attributes(&stored, &mut |_, row| {
                rows.push(row);
                Ok(())
            })
            .unwrap();
        assert_eq!((rows[0].ordering_key.as_deref(), rows[0].body_len), (Some(&b"g"[..]), Some(1)));
    }

    #[test]
    fn a_message_of_another_dialect_comes_back_as_it_was() {
        let header = |name: &str, value| Header { name: name.into(), value };
        let all = Record {
            body: Some(Bytes::from_static(&[0, 159, 146, 150])),
            headers: vec![
                header("text", HeaderValue::Text("t".into())),
                header("int", HeaderValue::Int(-7)),
                header("float", HeaderValue::Float(0.5)),
                header("whole", HeaderValue::Float(3.0)),
                header("bool", HeaderValue::Bool(true)),
                header("time", HeaderValue::Time(1_700_000_000_000)),
                header("binary", HeaderValue::Binary(Bytes::from_static(&[1, 255]))),
                header("null", HeaderValue::Null),
                header("empty", HeaderValue::Text(String::new())),
                header("odd name", HeaderValue::Text("x".into())),
                header("text", HeaderValue::Text("again".into())),
                header("list", HeaderValue::List(vec![HeaderValue::Int(1), HeaderValue::Null])),
                header("table", HeaderValue::Table(vec![header("in", HeaderValue::Time(5))])),
            ],
            content_type: Some("text/plain".into()),
            reply_to: Some("answers".into()),
            correlation_id: Some(Bytes::from_static(b"c-1")),
            message_id: Some("m-1".into()),
            priority: Some(4),
            append_time_ms: 9,
            ..Record::default()
        };
        let stored = batch(SqsFormat.write(std::slice::from_ref(&all)).unwrap(), 1);
        let message = find(&stored, 0).unwrap().unwrap().0;
        assert!(message.attributes.len() <= 10, "{:?}", message.attributes);
        assert!(message.attributes.iter().all(|one| crate::sqs::validate::attribute(one).is_ok()));
        let mut back = records(&stored).remove(0).1;
        let by_name = |a: &Header, b: &Header| format!("{a:?}").cmp(&format!("{b:?}"));
        let mut expected = all.clone();
        expected.headers.sort_by(by_name);
        back.headers.sort_by(by_name);
        assert_eq!(back, expected);
    }
}

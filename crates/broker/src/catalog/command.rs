//! Catalog commands and their stored form. Every command is a version byte, a tag byte and its fields; a version is
//! never changed in place, and an unknown one is refused, never guessed at.

use std::sync::Arc;

use bytes::Bytes;
use model::{Error, Kind, LogId, Namespace, Result, StreamId, StreamKey};

use super::user::UserRecord;
use crate::{
    codec::{Reader, put_bytes, put_i64, put_option, put_u64, put_u128},
    documents::DocumentKey,
    settings::{Facets, StreamSettings},
};

const VERSION: u8 = 1;

/// A stream as the catalog stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRecord {
    pub key: StreamKey,
    pub id: StreamId,
    pub settings: Arc<StreamSettings>,
    pub facets: Facets,
    /// The log of each partition.
    pub logs: Box<[LogId]>,
}

/// One durable change of the catalog. They were validated before they were logged, so that applying one cannot fail
/// but by a bug.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// The first command of a data directory: its random number, and the secret that handles are sealed with.
    Init {
        incarnation: u128,
        secret: u128,
    },
    CreateStream(StreamRecord),
    AlterStream {
        key: StreamKey,
        settings: Arc<StreamSettings>,
    },
    AddPartitions {
        key: StreamKey,
        logs: Box<[LogId]>,
    },
    DeleteStream {
        key: StreamKey,
    },
    /// These logs of deleted streams are gone from the engine.
    LogsGone(Vec<LogId>),
    /// Producer ids below this may be in use.
    ProducerIds {
        below: i64,
    },
    PutDocument {
        key: DocumentKey,
        body: Option<Bytes>,
    },
    PutUser {
        name: Arc<str>,
        user: Box<UserRecord>,
    },
    DeleteUser {
        name: Arc<str>,
    },
    PutEntry {
        section: Section,
        key: Bytes,
        body: Option<Bytes>,
    },
}

/// Small tables of the broker's own that the state machine carries whole: which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Section {
    /// Routes by id.
    Routes,
    /// Move tasks by id.
    Moves,
    /// Access keys by id.
    AccessKeys,
    /// What names a user by itself.
    Identities,
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            Command::Init { incarnation, secret } => {
                out.push(1);
                put_u128(&mut out, *incarnation);
                put_u128(&mut out, *secret);
            }
            Command::CreateStream(record) => {
                out.push(2);
                record.encode(&mut out);
            }
            Command::AlterStream { key, settings } => {
                out.push(3);
                put_key(&mut out, key);
                settings.encode(&mut out);
            }
            Command::AddPartitions { key, logs } => {
                out.push(4);
                put_key(&mut out, key);
                put_logs(&mut out, logs);
            }
            Command::DeleteStream { key } => {
                out.push(5);
                put_key(&mut out, key);
            }
            Command::LogsGone(logs) => {
                out.push(6);
                put_logs(&mut out, logs);
            }
            Command::ProducerIds { below } => {
                out.push(7);
                put_i64(&mut out, *below);
            }
            Command::PutDocument { key, body } => {
                out.push(8);
                put_document_key(&mut out, key);
                put_option(&mut out, body.as_deref(), put_bytes);
            }
            Command::PutUser { name, user } => {
                out.push(9);
                put_bytes(&mut out, name.as_bytes());
                user.encode(&mut out);
            }
            Command::DeleteUser { name } => {
                out.push(10);
                put_bytes(&mut out, name.as_bytes());
            }
            Command::PutEntry { section, key, body } => {
                out.push(11);
                out.push(section.tag());
                put_bytes(&mut out, key);
                put_option(&mut out, body.as_deref(), put_bytes);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => {
                return Err(Error::corrupt(format!("a catalog command has the unknown version {other}")));
            }
        }
        let command = Command::decode_fields(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8()? {
            1 => Command::Init { incarnation: reader.u128()?, secret: reader.u128()? },
            2 => Command::CreateStream(StreamRecord::decode(reader)?),
            3 => Command::AlterStream {
                key: read_key(reader)?,
                settings: Arc::new(StreamSettings::decode(reader)?),
            },
            4 => Command::AddPartitions { key: read_key(reader)?, logs: read_logs(reader)? },
            5 => Command::DeleteStream { key: read_key(reader)? },
            6 => Command::LogsGone(read_logs(reader)?.into()),
            7 => Command::ProducerIds { below: reader.i64()? },
            8 => {
                Command::PutDocument { key: read_document_key(reader)?, body: reader.option(Reader::bytes)? }
            }
            9 => {
                Command::PutUser { name: reader.text()?.into(), user: Box::new(UserRecord::decode(reader)?) }
            }
            10 => Command::DeleteUser { name: reader.text()?.into() },
            11 => Command::PutEntry {
                section: Section::of(reader.u8()?)?,
                key: reader.bytes()?,
                body: reader.option(Reader::bytes)?,
            },
            other => return Err(Error::corrupt(format!("a catalog command has the unknown tag {other}"))),
        })
    }
}

impl Section {
    pub(crate) fn tag(self) -> u8 {
        match self {
            Section::Routes => 1,
            Section::Moves => 2,
            Section::AccessKeys => 3,
            Section::Identities => 4,
        }
    }

    pub(crate) fn of(tag: u8) -> Result<Self> {
        match tag {
            1 => Ok(Section::Routes),
            2 => Ok(Section::Moves),
            3 => Ok(Section::AccessKeys),
            4 => Ok(Section::Identities),
            other => Err(Error::corrupt(format!("the catalog has the unknown section {other}"))),
        }
    }
}

impl StreamRecord {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_key(out, &self.key);
        put_u128(out, self.id.0);
        self.settings.encode(out);
        self.facets.encode(out);
        put_logs(out, &self.logs);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(StreamRecord {
            key: read_key(reader)?,
            id: StreamId(reader.u128()?),
            settings: Arc::new(StreamSettings::decode(reader)?),
            facets: Facets::decode(reader)?,
            logs: read_logs(reader)?,
        })
    }
}

pub(crate) fn put_namespace(out: &mut Vec<u8>, namespace: &Namespace) {
    put_bytes(out, namespace.tenant.as_bytes());
    put_bytes(out, namespace.space.as_bytes());
}

pub(crate) fn read_namespace(reader: &mut Reader<'_>) -> Result<Namespace> {
    let tenant = reader.text()?;
    Ok(Namespace::new(tenant, reader.text()?))
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: &StreamKey) {
    put_namespace(out, &key.namespace);
    out.push(match key.kind {
        Kind::Log => 0,
        Kind::Queue => 1,
    });
    put_bytes(out, key.name.as_bytes());
}

pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<StreamKey> {
    let namespace = read_namespace(reader)?;
    let kind = if reader.flag()? { Kind::Queue } else { Kind::Log };
    Ok(StreamKey { namespace, kind, name: reader.text()?.into() })
}

pub(crate) fn put_document_key(out: &mut Vec<u8>, key: &DocumentKey) {
    put_bytes(out, key.dialect.as_bytes());
    put_namespace(out, &key.namespace);
    put_bytes(out, key.name.as_bytes());
}

pub(crate) fn read_document_key(reader: &mut Reader<'_>) -> Result<DocumentKey> {
    let dialect = reader.text()?.to_owned();
    let namespace = read_namespace(reader)?;
    Ok(DocumentKey { dialect, namespace, name: reader.text()?.to_owned() })
}

fn put_logs(out: &mut Vec<u8>, logs: &[LogId]) {
    put_u64(out, logs.len() as u64);
    logs.iter().for_each(|log| put_u64(out, log.0));
}

fn read_logs(reader: &mut Reader<'_>) -> Result<Box<[LogId]>> {
    Ok(reader.list(|reader| reader.u64().map(LogId))?.into())
}

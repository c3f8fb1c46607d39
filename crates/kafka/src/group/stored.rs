//! The durable part of a group: what a restart within the session time-out must find, so that no rebalance happens.
//!
//! Stored when a generation has its assignment, when the group empties, and when a static member changes its id. A
//! crash during a rebalance goes back to the generation before it, whose members then join again.
//!
//! ```text
//! version u8 = 1 │ generation i32 │ emptied_ms opt i64 │ type, protocol, leader: opt text
//! members: count u32 × (id, instance opt, client_id, software, its version, host │ session u64, rebalance u64
//!                       │ protocols: count u32 × (name, metadata) │ assignment │ joined i64)
//! history: count u32 × (at i64, took opt u64, generation i32, members u32, cause u8, reason, member, client)
//! text and bytes: length u32, then the bytes; optional: one byte 0 or 1 first
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Error, Result};

use super::{Cause, ClientView, Group, GroupLimits, Member, Now, Phase, Rebalance};

const VERSION: u8 = 1;

impl Group {
    /// The durable part as bytes.
    pub(crate) fn to_stored(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        out.put_i32(self.generation);
        put_optional(&mut out, self.emptied_wall_ms, |out, ms| out.put_i64(ms));
        for text in [&self.protocol_type, &self.protocol, &self.leader] {
            put_optional(&mut out, text.as_deref(), |out, text| put_bytes(out, text.as_bytes()));
        }
        put_count(&mut out, self.members.len());
        for member in self.members.all() {
            put_member(&mut out, member);
        }
        put_count(&mut out, self.history.len());
        for rebalance in &self.history {
            put_rebalance(&mut out, rebalance);
        }
        out.freeze()
    }

    /// The group as it was stored; every session begins anew at `now`, since nobody could be heard meanwhile.
    /// [`model::ErrorKind::Corrupt`] when the bytes do not read.
    pub(crate) fn from_stored(id: &str, limits: GroupLimits, stored: &[u8], now: Now) -> Result<Self> {
        let mut from = Stored { bytes: stored, group: id };
        let version = from.u8()?;
        if version != VERSION {
            return Err(from.corrupt(&format!("its version {version} is not known")));
        }
        let mut group = Group::new(id, limits);
        group.generation = from.i32()?;
        group.emptied_wall_ms = from.optional(Stored::i64)?;
        group.protocol_type = from.optional(Stored::text)?;
        group.protocol = from.optional(Stored::text)?;
        group.leader = from.optional(Stored::text)?;
        for _ in 0..from.count()? {
            let member = from.member(now)?;
            if let Some(instance) = &member.instance_id {
                group.statics.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member);
        }
        for _ in 0..from.count()? {
            let rebalance = from.rebalance()?;
            group.history.push_back(rebalance);
        }
        group.phase = if group.members.is_empty() { Phase::Empty } else { Phase::Stable };
        Ok(group)
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn put_count(out: &mut BytesMut, count: usize) {
    // Nothing here comes near 4 GiB: requests are bounded far below.
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

fn put_optional<T>(out: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_member(out: &mut BytesMut, member: &Member) {
    put_bytes(out, member.id.as_bytes());
    put_optional(out, member.instance_id.as_deref(), |out, id| put_bytes(out, id.as_bytes()));
    for text in [
        &member.client.client_id,
        &member.client.software,
        &member.client.software_version,
        &member.client.host,
    ] {
        put_bytes(out, text.as_bytes());
    }
    out.put_u64(member.session_timeout_ms);
    out.put_u64(member.rebalance_timeout_ms);
    put_count(out, member.protocols.len());
    for (name, metadata) in &member.protocols {
        put_bytes(out, name.as_bytes());
        put_bytes(out, metadata);
    }
    put_bytes(out, &member.assignment);
    out.put_i64(member.joined_wall_ms);
}

fn put_rebalance(out: &mut BytesMut, rebalance: &Rebalance) {
    let (cause, reason) = match &rebalance.cause {
        Cause::Join(reason) => (0, reason.as_str()),
        Cause::Leave(reason) => (1, reason.as_str()),
        Cause::SessionExpired => (2, ""),
        Cause::RebalanceTimeout => (3, ""),
        Cause::SubscriptionChanged => (4, ""),
        Cause::LeaderRejoined(reason) => (5, reason.as_str()),
        Cause::InstanceReplaced => (6, ""),
        Cause::Evicted => (7, ""),
    };
    out.put_i64(rebalance.at_wall_ms);
    put_optional(out, rebalance.took_ms, |out, ms| out.put_u64(ms));
    out.put_i32(rebalance.generation);
    out.put_u32(rebalance.members);
    out.put_u8(cause);
    for text in [reason, &rebalance.member_id, &rebalance.client_id] {
        put_bytes(out, text.as_bytes());
    }
}

/// Reads what was stored; every step is checked.
struct Stored<'a> {
    bytes: &'a [u8],
    group: &'a str,
}

impl Stored<'_> {
    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(format!("the stored state of group {:?} does not read: {what}", self.group))
    }

    fn short(&self) -> Error {
        self.corrupt("it ends too soon")
    }

    fn u8(&mut self) -> Result<u8> {
        self.bytes.try_get_u8().map_err(|_| self.short())
    }

    fn i32(&mut self) -> Result<i32> {
        self.bytes.try_get_i32().map_err(|_| self.short())
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes.try_get_u32().map_err(|_| self.short())
    }

    fn i64(&mut self) -> Result<i64> {
        self.bytes.try_get_i64().map_err(|_| self.short())
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes.try_get_u64().map_err(|_| self.short())
    }

    fn count(&mut self) -> Result<usize> {
        let count = self.bytes.try_get_u32().map_err(|_| self.short())? as usize;
        // Every counted thing takes a byte at least.
        if count > self.bytes.len() { Err(self.short()) } else { Ok(count) }
    }

    fn blob(&mut self) -> Result<Bytes> {
        let len = self.count()?;
        let (blob, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        Ok(Bytes::copy_from_slice(blob))
    }

    fn text(&mut self) -> Result<String> {
        let blob = self.blob()?;
        String::from_utf8(blob.into()).map_err(|_| self.corrupt("a text is not UTF-8"))
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        Ok(if self.u8()? == 0 { None } else { Some(read(self)?) })
    }

    fn member(&mut self, now: Now) -> Result<Member> {
        let id = self.text()?;
        let instance_id = self.optional(Stored::text)?;
        let client = ClientView {
            client_id: self.text()?,
            software: self.text()?,
            software_version: self.text()?,
            host: self.text()?,
        };
        let session_timeout_ms = self.u64()?;
        let rebalance_timeout_ms = self.u64()?;
        let count = self.count()?;
        let protocols = (0..count).map(|_| Ok((self.text()?, self.blob()?))).collect::<Result<_>>()?;
        Ok(Member {
            id,
            instance_id,
            client,
            session_timeout_ms,
            rebalance_timeout_ms,
            protocols,
            assignment: self.blob()?,
            joined_wall_ms: self.i64()?,
            joining: None,
            syncing: None,
            synced: true,
            is_new: false,
            expires_at_ms: now.mono_ms.saturating_add(session_timeout_ms),
            last_heartbeat_wall_ms: now.wall_ms,
            last_commit_wall_ms: None,
        })
    }

    fn rebalance(&mut self) -> Result<Rebalance> {
        let at_wall_ms = self.i64()?;
        let took_ms = self.optional(Stored::u64)?;
        let generation = self.i32()?;
        let members = self.u32()?;
        let cause = self.u8()?;
        let reason = self.text()?;
        let cause = match cause {
            0 => Cause::Join(reason),
            1 => Cause::Leave(reason),
            2 => Cause::SessionExpired,
            3 => Cause::RebalanceTimeout,
            4 => Cause::SubscriptionChanged,
            5 => Cause::LeaderRejoined(reason),
            6 => Cause::InstanceReplaced,
            7 => Cause::Evicted,
            other => return Err(self.corrupt(&format!("cause {other} is not known"))),
        };
        Ok(Rebalance {
            at_wall_ms,
            took_ms,
            generation,
            members,
            cause,
            member_id: self.text()?,
            client_id: self.text()?,
        })
    }
}

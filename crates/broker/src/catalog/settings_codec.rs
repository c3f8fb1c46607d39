//! Stored form of stream settings. Numbered fields, each with its length, only those that differ from the default:
//! most streams take a few bytes, and a field that an older program does not know is refused, not lost.

use cursor::Exhaust;
use model::{Error, Result};
use store::Durability;

use super::command::{put_key, read_key};
use crate::{
    codec::{Reader, put_bytes, put_option, put_u64},
    settings::{DeadLetter, Facets, Mode, Overflow, StreamSettings, TimeSource},
};

const END: u8 = 0;

impl StreamSettings {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let default = StreamSettings::default();
        let StreamSettings {
            mode,
            durability,
            retention,
            batch_len_max,
            record_len_max,
            time,
            length_max,
            bytes_max,
            overflow,
            limits_ready,
            dead_letter,
            delivery_limit,
            exhaust,
            lease_ms,
            delay_ms,
            ttl_ms,
            dedup_window_ms,
            index_route_keys,
            entry_keys,
            key_records_max,
            key_overflow,
            expires_records,
            over,
            history_ms,
            extras,
        } = self;
        put_number(out, 1, mode_number(*mode), 0);
        put_number(out, 2, u64::from(*durability == Durability::Memory), 0);
        put_some(out, 3, retention.time_ms);
        put_some(out, 4, retention.bytes);
        put_some(out, 5, retention.records);
        put_some(out, 6, batch_len_max.map(u64::from));
        put_some(out, 7, record_len_max.map(u64::from));
        put_number(out, 8, u64::from(*time == TimeSource::Append), 0);
        put_some(out, 9, *length_max);
        put_some(out, 10, *bytes_max);
        put_number(out, 11, overflow_number(*overflow), 0);
        if let Some(dead_letter) = dead_letter {
            out.push(12);
            put_key(out, &dead_letter.target);
            put_option(out, dead_letter.route_key.as_deref(), |out, key| put_bytes(out, key.as_bytes()));
        }
        put_some(out, 13, delivery_limit.map(u64::from));
        put_some(out, 14, *lease_ms);
        put_number(out, 15, *delay_ms, default.delay_ms);
        put_some(out, 16, *ttl_ms);
        put_number(out, 17, *dedup_window_ms, default.dedup_window_ms);
        put_number(out, 19, u64::from(*index_route_keys), 0);
        for pattern in entry_keys {
            out.push(27);
            put_bytes(out, pattern.as_bytes());
        }
        if let Some(over) = over {
            out.push(20);
            put_key(out, over);
        }
        put_some(out, 21, *history_ms);
        put_some(out, 23, *key_records_max);
        put_number(out, 24, overflow_number(*key_overflow), 0);
        put_number(out, 25, u64::from(*expires_records), 0);
        put_number(out, 26, u64::from(*limits_ready), 0);
        put_number(out, 22, u64::from(*exhaust == Exhaust::WhenOffered), 0);
        for (name, value) in extras {
            out.push(18);
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
        out.push(END);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut settings = StreamSettings::default();
        loop {
            match reader.u8()? {
                END => return Ok(settings),
                1 => settings.mode = mode_of(reader.u64()?)?,
                2 if reader.flag()? => settings.durability = Durability::Memory,
                2 => settings.durability = Durability::Fsync,
                3 => settings.retention.time_ms = Some(reader.u64()?),
                4 => settings.retention.bytes = Some(reader.u64()?),
                5 => settings.retention.records = Some(reader.u64()?),
                6 => settings.batch_len_max = Some(reader.u32()?),
                7 => settings.record_len_max = Some(reader.u32()?),
                8 if reader.flag()? => settings.time = TimeSource::Append,
                8 => settings.time = TimeSource::Producer,
                9 => settings.length_max = Some(reader.u64()?),
                10 => settings.bytes_max = Some(reader.u64()?),
                11 => settings.overflow = overflow_of(reader.u64()?)?,
                12 => {
                    let target = read_key(reader)?;
                    let route_key = reader.option(|reader| reader.text().map(str::to_owned))?;
                    settings.dead_letter = Some(DeadLetter { target, route_key });
                }
                13 => settings.delivery_limit = Some(reader.u32()?),
                14 => settings.lease_ms = Some(reader.u64()?),
                15 => settings.delay_ms = reader.u64()?,
                16 => settings.ttl_ms = Some(reader.u64()?),
                17 => settings.dedup_window_ms = reader.u64()?,
                18 => {
                    let name = reader.text()?.to_owned();
                    settings.extras.insert(name, reader.text()?.to_owned());
                }
                20 => settings.over = Some(read_key(reader)?),
                21 => settings.history_ms = Some(reader.u64()?),
                22 if reader.flag()? => settings.exhaust = Exhaust::WhenOffered,
                22 => settings.exhaust = Exhaust::WhenReturned,
                23 => settings.key_records_max = Some(reader.u64()?),
                24 => settings.key_overflow = overflow_of(reader.u64()?)?,
                19 => settings.index_route_keys = reader.flag()?,
                25 => settings.expires_records = reader.flag()?,
                27 => settings.entry_keys.push(reader.text()?.to_owned()),
                26 => settings.limits_ready = reader.flag()?,
                other => return Err(Error::corrupt(format!("a stream has the unknown setting {other}"))),
            }
        }
    }
}

impl Facets {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Facets { hidden, exclusive, auto_delete, transient } = *self;
        let bits = [hidden, exclusive, auto_delete, transient];
        out.push(bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let bits = reader.u8()?;
        if bits > 15 {
            return Err(Error::corrupt("a stream has unknown properties"));
        }
        let bit = |at: u8| bits & (1 << at) != 0;
        Ok(Facets { hidden: bit(0), exclusive: bit(1), auto_delete: bit(2), transient: bit(3) })
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, value: u64, default: u64) {
    put_some(out, field, (value != default).then_some(value));
}

fn put_some(out: &mut Vec<u8>, field: u8, value: Option<u64>) {
    if let Some(value) = value {
        out.push(field);
        put_u64(out, value);
    }
}

fn mode_number(mode: Mode) -> u64 {
    match mode {
        Mode::Log => 0,
        Mode::Queue => 1,
        Mode::Interest => 2,
    }
}

fn mode_of(number: u64) -> Result<Mode> {
    match number {
        0 => Ok(Mode::Log),
        1 => Ok(Mode::Queue),
        2 => Ok(Mode::Interest),
        _ => Err(Error::corrupt("a stream has an unknown mode")),
    }
}

fn overflow_number(overflow: Overflow) -> u64 {
    match overflow {
        Overflow::DropOldest => 0,
        Overflow::Refuse => 1,
        Overflow::Deflect => 2,
    }
}

fn overflow_of(number: u64) -> Result<Overflow> {
    match number {
        0 => Ok(Overflow::DropOldest),
        1 => Ok(Overflow::Refuse),
        2 => Ok(Overflow::Deflect),
        _ => Err(Error::corrupt("a stream has an unknown overflow policy")),
    }
}

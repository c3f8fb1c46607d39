//! Every method of the protocol and of the original's extensions: one table of numbers and arguments makes the enum, what
//! reads it and what writes it.

use wire::{Error, Reader, Result};

use super::{
    Fault,
    table::{Table, put_long, put_short},
};

/// Arguments being read. Bits that follow each other share octets.
struct Args<'a> {
    reader: Reader<'a>,
    bits: Option<(u8, u32)>,
}

/// Arguments being written.
struct Out<'o> {
    out: &'o mut Vec<u8>,
    /// Where the octet of bits under way is, and how many it has.
    bits: Option<(usize, u32)>,
}

trait Argument<'a>: Sized {
    fn read(args: &mut Args<'a>) -> Result<Self>;
    fn write(self, out: &mut Out<'_>);
}

impl<'a> Args<'a> {
    fn whole(&mut self) -> &mut Reader<'a> {
        self.bits = None;
        &mut self.reader
    }
}

impl Out<'_> {
    fn whole(&mut self) -> &mut Vec<u8> {
        self.bits = None;
        self.out
    }
}

impl<'a> Argument<'a> for bool {
    fn read(args: &mut Args<'a>) -> Result<Self> {
        let (octet, used) = match args.bits {
            Some((octet, used)) if used < 8 => (octet, used),
            _ => (args.reader.u8()?, 0),
        };
        args.bits = Some((octet, used + 1));
        Ok(octet >> used & 1 == 1)
    }

    fn write(self, out: &mut Out<'_>) {
        let (at, used) = match out.bits {
            Some((at, used)) if used < 8 => (at, used),
            _ => {
                out.out.push(0);
                (out.out.len() - 1, 0)
            }
        };
        if let Some(octet) = out.out.get_mut(at) {
            *octet |= u8::from(self) << used;
        }
        out.bits = Some((at, used + 1));
    }
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl<'a> Argument<'a> for $type {
            fn read(args: &mut Args<'a>) -> Result<Self> {
                args.whole().$type()
            }

            fn write(self, out: &mut Out<'_>) {
                out.whole().extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

integers!(u8 u16 u32 u64);

/// Short text: names.
impl<'a> Argument<'a> for &'a str {
    fn read(args: &mut Args<'a>) -> Result<Self> {
        let len = args.whole().u8()?;
        args.reader.text(usize::from(len))
    }

    fn write(self, out: &mut Out<'_>) {
        put_short(out.whole(), self.as_bytes());
    }
}

/// Short text that is any bytes: routing keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key<'a>(pub &'a [u8]);

impl<'a> Argument<'a> for Key<'a> {
    fn read(args: &mut Args<'a>) -> Result<Self> {
        let len = args.whole().u8()?;
        args.reader.take(usize::from(len)).map(Key)
    }

    fn write(self, out: &mut Out<'_>) {
        put_short(out.whole(), self.0);
    }
}

/// Long text that is any bytes.
impl<'a> Argument<'a> for &'a [u8] {
    fn read(args: &mut Args<'a>) -> Result<Self> {
        let len = args.whole().u32()? as usize;
        args.reader.take(len)
    }

    fn write(self, out: &mut Out<'_>) {
        put_long(out.whole(), self);
    }
}

impl<'a> Argument<'a> for Table<'a> {
    fn read(args: &mut Args<'a>) -> Result<Self> {
        Table::read(args.whole())
    }

    fn write(self, out: &mut Out<'_>) {
        put_long(out.whole(), self.bytes());
    }
}

macro_rules! methods {
    ($($class:literal $index:literal $name:ident {
        $($field:ident: $type:ty),* $(,)?
    })*) => {
        /// A method with its arguments, borrowed from where they were read.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Method<'a> {
            $($name { $($field: $type),* },)*
        }

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame.
            pub(crate) fn read(payload: &'a [u8]) -> std::result::Result<Self, Fault> {
                let mut reader = Reader::new(payload);
                let (class, index) = (reader.u16()?, reader.u16()?);
                let mut args = Args { reader, bits: None };
                let method = match (class, index) {
                    $(($class, $index) => {
                        $(let $field = <$type as Argument>::read(&mut args)?;)*
                        Method::$name { $($field),* }
                    })*
                    _ => return Err(Fault::Unknown(class, index)),
                };
                // The original ignores what follows the last argument only where a newer client may send more.
                match args.reader.remaining() {
                    0 => Ok(method),
                    surplus => Err(Error::Surplus(surplus).into()),
                }
            }

            /// The numbers of its class and itself.
            pub(crate) fn id(&self) -> (u16, u16) {
                match self {
                    $(Method::$name { .. } => ($class, $index),)*
                }
            }

            /// Appends the payload of its frame.
            pub(crate) fn write(self, out: &mut Vec<u8>) {
                let (class, index) = self.id();
                out.extend_from_slice(&class.to_be_bytes());
                out.extend_from_slice(&index.to_be_bytes());
                let mut out = Out { out, bits: None };
                match self {
                    $(Method::$name { $($field),* } => {
                        $(Argument::write($field, &mut out);)*
                        let _ = &mut out;
                    })*
                }
            }
        }

        /// The numbers of every method.
        #[cfg(test)]
        pub(super) const ALL: &[(u16, u16)] = &[$(($class, $index)),*];
    };
}

methods! {
    10 10 ConnectionStart {
        version_major: u8, version_minor: u8, server_properties: Table<'a>, mechanisms: &'a [u8], locales: &'a [u8],
    }
    10 11 ConnectionStartOk {
        client_properties: Table<'a>, mechanism: &'a str, response: &'a [u8], locale: &'a str,
    }
    10 20 ConnectionSecure { challenge: &'a [u8] }
    10 21 ConnectionSecureOk { response: &'a [u8] }
    10 30 ConnectionTune { channel_max: u16, frame_max: u32, heartbeat: u16 }
    10 31 ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 }
    10 40 ConnectionOpen { virtual_host: &'a str, capabilities: &'a str, insist: bool }
    10 41 ConnectionOpenOk { known_hosts: &'a str }
    10 50 ConnectionClose { code: u16, text: &'a str, class: u16, method: u16 }
    10 51 ConnectionCloseOk {}
    10 60 ConnectionBlocked { reason: &'a str }
    10 61 ConnectionUnblocked {}
    10 70 ConnectionUpdateSecret { secret: &'a [u8], reason: &'a str }
    10 71 ConnectionUpdateSecretOk {}
    20 10 ChannelOpen { out_of_band: &'a str }
    20 11 ChannelOpenOk { channel_id: &'a [u8] }
    20 20 ChannelFlow { active: bool }
    20 21 ChannelFlowOk { active: bool }
    20 40 ChannelClose { code: u16, text: &'a str, class: u16, method: u16 }
    20 41 ChannelCloseOk {}
    30 10 AccessRequest {
        realm: &'a str, exclusive: bool, passive: bool, active: bool, write: bool, read: bool,
    }
    30 11 AccessRequestOk { ticket: u16 }
    40 10 ExchangeDeclare {
        ticket: u16, exchange: &'a str, kind: &'a str, passive: bool, durable: bool, auto_delete: bool,
        internal: bool, nowait: bool, arguments: Table<'a>,
    }
    40 11 ExchangeDeclareOk {}
    40 20 ExchangeDelete { ticket: u16, exchange: &'a str, if_unused: bool, nowait: bool }
    40 21 ExchangeDeleteOk {}
    40 30 ExchangeBind {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: Key<'a>, nowait: bool, arguments: Table<'a>,
    }
    40 31 ExchangeBindOk {}
    40 40 ExchangeUnbind {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: Key<'a>, nowait: bool, arguments: Table<'a>,
    }
    40 51 ExchangeUnbindOk {}
    50 10 QueueDeclare {
        ticket: u16, queue: &'a str, passive: bool, durable: bool, exclusive: bool, auto_delete: bool, nowait: bool,
        arguments: Table<'a>,
    }
    50 11 QueueDeclareOk { queue: &'a str, message_count: u32, consumer_count: u32 }
    50 20 QueueBind {
        ticket: u16, queue: &'a str, exchange: &'a str, routing_key: Key<'a>, nowait: bool, arguments: Table<'a>,
    }
    50 21 QueueBindOk {}
    50 30 QueuePurge { ticket: u16, queue: &'a str, nowait: bool }
    50 31 QueuePurgeOk { message_count: u32 }
    50 40 QueueDelete { ticket: u16, queue: &'a str, if_unused: bool, if_empty: bool, nowait: bool }
    50 41 QueueDeleteOk { message_count: u32 }
    50 50 QueueUnbind {
        ticket: u16, queue: &'a str, exchange: &'a str, routing_key: Key<'a>, arguments: Table<'a>,
    }
    50 51 QueueUnbindOk {}
    60 10 BasicQos { prefetch_size: u32, prefetch_count: u16, global: bool }
    60 11 BasicQosOk {}
    60 20 BasicConsume {
        ticket: u16, queue: &'a str, consumer_tag: &'a str, no_local: bool, no_ack: bool, exclusive: bool,
        nowait: bool, arguments: Table<'a>,
    }
    60 21 BasicConsumeOk { consumer_tag: &'a str }
    60 30 BasicCancel { consumer_tag: &'a str, nowait: bool }
    60 31 BasicCancelOk { consumer_tag: &'a str }
    60 40 BasicPublish {
        ticket: u16, exchange: &'a str, routing_key: Key<'a>, mandatory: bool, immediate: bool,
    }
    60 50 BasicReturn { code: u16, text: &'a str, exchange: &'a str, routing_key: Key<'a> }
    60 60 BasicDeliver {
        consumer_tag: &'a str, delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: Key<'a>,
    }
    60 70 BasicGet { ticket: u16, queue: &'a str, no_ack: bool }
    60 71 BasicGetOk {
        delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: Key<'a>, message_count: u32,
    }
    60 72 BasicGetEmpty { cluster_id: &'a str }
    60 80 BasicAck { delivery_tag: u64, multiple: bool }
    60 90 BasicReject { delivery_tag: u64, requeue: bool }
    60 100 BasicRecoverAsync { requeue: bool }
    60 110 BasicRecover { requeue: bool }
    60 111 BasicRecoverOk {}
    60 120 BasicNack { delivery_tag: u64, multiple: bool, requeue: bool }
    85 10 ConfirmSelect { nowait: bool }
    85 11 ConfirmSelectOk {}
    90 10 TxSelect {}
    90 11 TxSelectOk {}
    90 20 TxCommit {}
    90 21 TxCommitOk {}
    90 30 TxRollback {}
    90 31 TxRollbackOk {}
}

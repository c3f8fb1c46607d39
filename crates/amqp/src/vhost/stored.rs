//! Exchanges and bindings as documents of the broker.
//!
//! ```text
//! exchange  name "x" exchange;                          body version  kind  flags  arguments
//! binding   name "b" length:3 source  number of target  body version  source  target kind  target  key  arguments
//! ```
//! A binding's number is a hash of what it is, so that the same binding is the same document.

use std::sync::Arc;

use broker::{Broker, DocumentKey};
use model::{Namespace, Seq, StreamKey};
use wire::compact::{Reader, put_bytes};

use super::{
    Topology,
    binding::{Binding, Target},
    exchange::{Exchange, ExchangeSpec, Kind},
};
use crate::error::Result;

const DIALECT: &str = "amqp";
const VERSION: u8 = 1;

fn exchange_key(namespace: &Namespace, name: &str) -> DocumentKey {
    DocumentKey { dialect: DIALECT.into(), namespace: namespace.clone(), name: format!("x{name}") }
}

fn binding_key(namespace: &Namespace, source: &str, body: &[u8]) -> DocumentKey {
    let name = format!("b{:03}{source}{:032x}", source.len(), fnv1a(body));
    DocumentKey { dialect: DIALECT.into(), namespace: namespace.clone(), name }
}

/// FNV-1a, 128 bits: fixed for ever, since documents are found by it.
fn fnv1a(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

fn encode_exchange(spec: &ExchangeSpec) -> Vec<u8> {
    let kind = match spec.kind {
        Kind::Direct => 0,
        Kind::Fanout => 1,
        Kind::Topic => 2,
        Kind::Headers => 3,
    };
    let flags = u8::from(spec.auto_delete) | u8::from(spec.internal) << 1 | u8::from(spec.is_delayed) << 2;
    let mut out = vec![VERSION, kind, flags];
    put_bytes(&mut out, &spec.arguments);
    out
}

fn decode_exchange(bytes: &[u8]) -> Option<ExchangeSpec> {
    let mut reader = Reader::new(bytes);
    let [version, kind, flags] = reader.array().ok()?;
    let kind = [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers].get(usize::from(kind)).copied()?;
    let arguments = reader.slice().ok()?.to_vec();
    (version == VERSION).then_some(ExchangeSpec {
        kind,
        durable: true,
        auto_delete: flags & 1 != 0,
        internal: flags & 2 != 0,
        is_delayed: flags & 4 != 0,
        arguments,
    })
}

fn encode_binding(source: &str, binding: &Binding) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_bytes(&mut out, source.as_bytes());
    let (kind, name) = match &binding.target {
        Target::Queue(name) => (0, name),
        Target::Exchange(name) => (1, name),
    };
    out.push(kind);
    put_bytes(&mut out, name.as_bytes());
    put_bytes(&mut out, &binding.routing_key);
    put_bytes(&mut out, &binding.arguments);
    out
}

fn decode_binding(bytes: &[u8]) -> Option<(String, Binding)> {
    let mut reader = Reader::new(bytes);
    if reader.u8().ok()? != VERSION {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let source = text(reader.slice().ok()?)?;
    let kind = reader.u8().ok()?;
    let name: Arc<str> = text(reader.slice().ok()?)?.into();
    let target = match kind {
        0 => Target::Queue(name),
        1 => Target::Exchange(name),
        _ => return None,
    };
    let routing_key = reader.slice().ok()?.to_vec();
    let arguments = reader.slice().ok()?.to_vec();
    Some((source, Binding { target, routing_key, arguments }))
}

/// Keeps an exchange, or forgets it.
pub(super) fn put_exchange(
    broker: &Broker,
    namespace: &Namespace,
    name: &str,
    spec: Option<&ExchangeSpec>,
) -> Result<Seq> {
    let body = spec.map(|spec| encode_exchange(spec).into());
    Ok(broker.put_document(exchange_key(namespace, name), body)?)
}

/// Keeps a binding, or forgets it.
pub(super) fn put_binding(
    broker: &Broker,
    namespace: &Namespace,
    source: &str,
    binding: &Binding,
    is_there: bool,
) -> Result<Seq> {
    let body = encode_binding(source, binding);
    let key = binding_key(namespace, source, &body);
    Ok(broker.put_document(key, is_there.then(|| body.into()))?)
}

/// Takes in what is stored of a namespace. What does not read is reported and left where it is.
pub(super) fn load(broker: &Broker, namespace: &Namespace, topology: &mut Topology) {
    let documents = broker.documents(DIALECT);
    let own: Vec<_> = documents.into_iter().filter(|(key, _)| key.namespace == *namespace).collect();
    for (key, body) in &own {
        let Some(name) = key.name.strip_prefix('x') else { continue };
        match decode_exchange(body) {
            Some(spec) => {
                topology.exchanges.insert(name.into(), Exchange::new(spec));
            }
            None => tracing::error!(exchange = name, "a stored exchange does not read"),
        }
    }
    for (key, body) in &own {
        if !key.name.starts_with('b') {
            continue;
        }
        let read = decode_binding(body);
        if let Some((source, binding)) = &read
            && let Target::Queue(queue) = &binding.target
            && broker.stream(&StreamKey::queue(namespace, queue)).is_none()
        {
            // The queue was deleted by another dialect, or a crash came between.
            if let Err(error) = put_binding(broker, namespace, source, binding, false) {
                tracing::warn!(document = key.name, %error, "a binding to a queue that is gone stays stored");
            }
            continue;
        }
        let added = read.map(|(source, binding)| topology.add_binding(&source, Arc::new(binding)));
        if !matches!(added, Some(Ok(_))) {
            tracing::error!(document = key.name, "a stored binding does not read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_and_bindings_read_back() {
        let spec = ExchangeSpec {
            kind: Kind::Topic,
            durable: true,
            auto_delete: true,
            internal: false,
            is_delayed: true,
            arguments: vec![1, b'a', b'V'],
        };
        assert_eq!(decode_exchange(&encode_exchange(&spec)), Some(spec));
        for target in [Target::Queue("q".into()), Target::Exchange("e".into())] {
            let binding = Binding { target, routing_key: vec![0, 255], arguments: vec![] };
            let bytes = encode_binding("source", &binding);
            assert_eq!(decode_binding(&bytes), Some(("source".to_owned(), binding)));
            for len in 0..bytes.len() {
                assert_eq!(decode_binding(&bytes[..len]), None, "cut to {len}");
            }
        }
    }
}

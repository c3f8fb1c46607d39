//! Random bytes, from seeds: nothing panics, what arrives in pieces is what arrives whole, and what reads writes back.

use wire::testing::{Rng, seeds};

use super::{
    ContentHeader, Method, ProtocolHeader, Table, method::ALL, next_frame, protocol_header, put_method,
};

/// Seeds of an ordinary run.
const SEEDS: u64 = 4_000;
const FRAME_MAX: usize = 4_096;

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    // Small numbers often, so that lengths inside fit now and then.
    (0..len).map(|_| if rng.below(3) == 0 { rng.next() as u8 } else { rng.below(6) as u8 }).collect()
}

/// The payload of some method, its arguments at random.
fn method(rng: &mut Rng) -> Vec<u8> {
    let (class, index) = ALL[rng.below(ALL.len())];
    let len = rng.below(60);
    [&class.to_be_bytes()[..], &index.to_be_bytes(), &bytes(rng, len)].concat()
}

fn table(rng: &mut Rng) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..rng.below(4) {
        fields.extend_from_slice(&[1, b'a' + rng.below(3) as u8]);
        fields.push(b"VtbBsuIilLfdDSxTAF?"[rng.below(19)]);
        let len = rng.below(12);
        fields.extend_from_slice(&bytes(rng, len));
    }
    [&(fields.len() as u32).to_be_bytes()[..], &fields].concat()
}

fn stream(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(6) {
        let payload = match rng.below(3) {
            0 => method(rng),
            1 => [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], &bytes(rng, 20)].concat(),
            _ => {
                let len = rng.below(40);
                bytes(rng, len)
            }
        };
        out.push([1, 2, 3, 8, 1, 2, 3, 9][rng.below(8)]);
        out.extend_from_slice(&[0, rng.below(3) as u8]);
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(&payload);
        out.push(if rng.below(40) == 0 { 0 } else { 0xce });
    }
    if rng.below(4) == 0 {
        let len = rng.below(30);
        out.extend_from_slice(&bytes(rng, len));
    }
    out
}

/// Everything that is found in a stream that arrives in the given pieces, as text.
fn operations<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match next_frame(&buffer, FRAME_MAX) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let payload = &buffer[frame.payload.clone()];
                    found.push(format!(
                        "{:?} {} {:?} {:?}",
                        frame.kind,
                        frame.channel,
                        Method::read(payload),
                        ContentHeader::read(payload)
                    ));
                    buffer.drain(..frame.len);
                }
                Err(fault) => {
                    found.push(format!("{fault:?}"));
                    return found;
                }
            }
        }
    }
    found
}

#[test]
fn any_split_of_any_stream_gives_the_same_operations() {
    for seed in seeds(SEEDS) {
        let mut rng = Rng::new(seed);
        let stream = stream(&mut rng);
        let whole = operations([&stream[..]].into_iter());
        let size = 1 + rng.below(9);
        assert_eq!(operations(stream.chunks(size)), whole, "seed {seed}, pieces of {size}");
    }
}

#[test]
fn what_reads_as_a_method_writes_back_to_the_same_meaning() {
    let mut read = 0;
    for seed in seeds(SEEDS * 5) {
        let payload = method(&mut Rng::new(seed));
        let Ok(method) = Method::read(&payload) else { continue };
        read += 1;
        let mut out = Vec::new();
        put_method(&mut out, 1, method);
        let frame = next_frame(&out, FRAME_MAX).unwrap().unwrap();
        assert_eq!(Method::read(&out[frame.payload]), Ok(method), "seed {seed}");
    }
    assert!(read > 100, "only {read} random payloads were methods");
}

#[test]
fn random_tables_read_or_are_refused() {
    for seed in seeds(SEEDS * 5) {
        let bytes = table(&mut Rng::new(seed));
        if let Ok(table) = Table::read(&mut wire::Reader::new(&bytes)) {
            let raw: usize = table.raw_fields().map(|(_, field)| field.len()).sum();
            assert_eq!(raw, table.bytes().len(), "seed {seed}");
            assert_eq!(table.fields().count(), table.raw_fields().count(), "seed {seed}");
        }
    }
}

#[test]
fn random_first_bytes_are_one_protocol_or_another() {
    for seed in seeds(SEEDS) {
        let mut rng = Rng::new(seed);
        let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
        let at = rng.below(8);
        bytes[at] = rng.next() as u8;
        let whole = protocol_header(&bytes).unwrap();
        for len in 0..8 {
            let early = protocol_header(&bytes[..len]);
            assert!(early.is_none() || early == Some(ProtocolHeader::Other) && early == Some(whole));
        }
    }
}

//! More than the machine takes: memory stays within its bound, others are served, and what was confirmed is kept.

use std::{
    collections::HashSet,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    BUDGET, QUICK, RESIDENT_MAX, SLOW,
    client::{ACK, BLOCKED, Client, begin, frame, message},
    node::Node,
    resident_len, storm,
};

fn connect(node: &Node) -> Client {
    Client::connect(node.server.address("amqp"))
}

#[test]
fn more_than_the_disk_takes_is_slowed_down_within_memory_and_nothing_that_was_confirmed_is_lost() {
    // Each sync takes long: 32 publishers, who wait for nothing, have many times more than goes through.
    let mut node = Node::start_with(&SLOW);
    connect(&node).declare("jobs");
    let (stop, confirmed) = (AtomicBool::new(false), Mutex::new(HashSet::new()));
    let mut most = 0;
    std::thread::scope(|scope| {
        for publisher in 0..32_u64 {
            let (node, stop, confirmed) = (&node, &stop, &confirmed);
            scope.spawn(move || publish(&mut connect(node), publisher, stop, confirmed));
        }
        let mut other = connect(&node);
        other.declare("quiet");
        other.confirm();
        let began = Instant::now();
        while began.elapsed() < storm() {
            other.put("quiet", b"x");
            most = most.max(resident_len(&node));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(most < RESIDENT_MAX, "{most} bytes");
    node.kill();
    node.start_again_with(&QUICK);
    let mut left = confirmed.into_inner().unwrap();
    assert!(left.len() > 100, "{}", left.len());
    let mut client = connect(&node);
    client.consume("jobs", 200);
    while !left.is_empty() {
        let (tag, body) = client.take();
        left.remove(&u64::from_be_bytes(*body.first_chunk().unwrap()));
        client.ack_upto(tag);
    }
}

/// Publishes as fast as the socket takes it, and notes what is confirmed.
fn publish(client: &mut Client, publisher: u64, stop: &AtomicBool, confirmed: &Mutex<HashSet<u64>>) {
    client.confirm();
    client.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let id = |number: u64| publisher << 32 | number;
    let (mut sent, mut first_open, mut body) = (0, 1, vec![0; 20_000]);
    let until = Instant::now() + storm() + Duration::from_secs(1);
    while Instant::now() < until {
        if !stop.load(Ordering::SeqCst) {
            sent += 1;
            body[..8].copy_from_slice(&id(sent).to_be_bytes());
            client.send(&message("jobs", &body));
        }
        while let Ok(frame) = client.next() {
            if frame.id() == Some(ACK) {
                let (number, is_multiple) = frame.confirm();
                let from = if is_multiple { first_open } else { number };
                confirmed.lock().unwrap().extend((from..=number).map(id));
                first_open = first_open.max(number + 1);
            }
        }
    }
}

#[test]
fn bodies_that_do_not_end_take_their_share_of_memory_and_hold_up_nobody_else() {
    let node = Node::start_with(&["--memory-budget-len", BUDGET]);
    let mut client = connect(&node);
    client.declare("jobs");
    client.confirm();
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut endless = connect(&node);
        endless.send(&begin("jobs", 100 << 20));
        endless.stream.set_nonblocking(true).unwrap();
        // As much as goes without waiting; what is not read waits in the machine's buffers.
        let (bytes, mut at) = (frame(3, 1, &[b'x'; 100_000]).repeat(20), 0);
        while let Ok(len) = endless.stream.write(&bytes[at..]) {
            at += len;
            if at == bytes.len() {
                break;
            }
        }
        held.push(endless);
    }
    for number in 0..50_u8 {
        client.put("jobs", &[number; 1_000]);
    }
    let resident = resident_len(&node);
    assert!(resident < RESIDENT_MAX, "{resident} bytes");
    let last = held.last_mut().unwrap();
    last.stream.set_nonblocking(false).unwrap();
    last.until(BLOCKED);
    drop(held);
    client.consume("jobs", 100);
    for number in 0..50_u8 {
        assert_eq!(client.take().1, [number; 1_000]);
    }
}

#[test]
fn a_consumer_that_reads_nothing_costs_its_own_connection_alone() {
    let node = Node::start_with(&["--memory-budget-len", BUDGET]);
    let mut client = connect(&node);
    client.declare("jobs");
    client.confirm();
    let mut deaf = connect(&node);
    deaf.consume("jobs", 0);
    for _ in 0..400 {
        client.put("jobs", &[b'x'; 500_000]);
    }
    let resident = resident_len(&node);
    assert!(resident < RESIDENT_MAX, "{resident} bytes");
    drop(deaf);
    client.consume("jobs", 10);
    for _ in 0..400 {
        let (tag, body) = client.take();
        assert_eq!(body.len(), 500_000);
        client.ack_upto(tag);
    }
}

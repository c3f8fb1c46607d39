use std::task::{Context, Poll, Waker};

use super::*;
use crate::core::{pending::Pending, subject::pattern};

const PENDING_MAX: usize = 1 << 20;

struct Rig {
    hub: Arc<Hub>,
    fanout: Fanout,
    clients: Vec<Arc<Client>>,
}

impl Rig {
    fn new() -> Self {
        let hub = Arc::new(Hub::default());
        Rig { fanout: Fanout::new(hub.clone(), 7), hub, clients: Vec::new() }
    }

    fn client(&mut self) -> Arc<Client> {
        let client = Arc::new(Client::new(
            self.clients.len() as u64 + 1,
            PENDING_MAX,
            Arc::new(Pending::new(usize::MAX)),
        ));
        client.set_options(true, true);
        self.clients.push(client.clone());
        client
    }

    fn subscribe(
        &self,
        client: &Arc<Client>,
        subject: &str,
        queue: Option<&str>,
        sid: &str,
    ) -> Arc<Subscription> {
        let pattern = pattern(subject.as_bytes()).unwrap();
        self.hub.subscribe(pattern, queue.map(str::as_bytes), sid.as_bytes(), client, None)
    }

    fn publish(&mut self, subject: &str, payload: &str) -> usize {
        let message = Message {
            subject: subject.as_bytes(),
            reply: None,
            headers_len: None,
            payload: payload.as_bytes(),
        };
        self.fanout.publish(&message, None)
    }

    /// What a client was sent.
    fn got(&mut self, client: &Arc<Client>) -> String {
        assert!(self.fanout.flush(PENDING_MAX).is_none());
        taken(client)
    }
}

fn taken(client: &Client) -> String {
    let mut taken = Gathered::default();
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = Vec::new();
    while client.outbox.poll_take(&mut cx, &mut taken) == Poll::Ready(true) {
        let mut pieces = [std::io::IoSlice::new(&[]); 64];
        let count = taken.pieces(0, &mut pieces);
        pieces[..count].iter().for_each(|piece| bytes.extend_from_slice(piece));
        taken.clear();
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_plain_subscription_and_one_of_each_group_gets_a_message() {
    let mut rig = Rig::new();
    let (one, two) = (rig.client(), rig.client());
    rig.subscribe(&one, "a.*", None, "1");
    rig.subscribe(&one, "a.b", Some("q"), "2");
    rig.subscribe(&two, "a.>", Some("q"), "3");
    rig.subscribe(&two, "a.b", Some("r"), "4");
    assert_eq!(rig.publish("a.b", "x"), 3);
    let (one, two) = (rig.got(&one), rig.got(&two));
    assert!(one.contains("MSG a.b 1 1\r\nx\r\n"));
    assert!(two.contains("MSG a.b 4 1\r\nx\r\n"));
    let of_q = one.matches("MSG a.b 2 ").count() + two.matches("MSG a.b 3 ").count();
    assert_eq!(of_q, 1);
}

#[test]
fn a_group_is_used_evenly() {
    let mut rig = Rig::new();
    let clients = [rig.client(), rig.client(), rig.client()];
    for client in &clients {
        rig.subscribe(client, "jobs", Some("workers"), "1");
    }
    for _ in 0..3_000 {
        assert_eq!(rig.publish("jobs", ""), 1);
    }
    let counts = clients.each_ref().map(|client| rig.got(client).matches("MSG").count());
    assert_eq!(counts.iter().sum::<usize>(), 3_000);
    assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
}

#[test]
fn a_new_subscription_and_one_that_went_are_noticed_at_once() {
    let mut rig = Rig::new();
    let one = rig.client();
    assert_eq!(rig.publish("a", "1"), 0);
    let subscription = rig.subscribe(&one, "a", None, "1");
    assert_eq!(rig.publish("a", "2"), 1);
    rig.hub.unsubscribe(&subscription);
    assert_eq!(rig.publish("a", "3"), 0);
    assert_eq!(rig.got(&one), "MSG a 1 1\r\n2\r\n");
}

#[test]
fn a_limited_subscription_ends_after_its_last_message() {
    let mut rig = Rig::new();
    let one = rig.client();
    rig.subscribe(&one, "a", None, "1").limit(2);
    let reached: Vec<_> = (0..4).map(|_| rig.publish("a", "x")).collect();
    assert_eq!(reached, [1, 1, 0, 0]);
    assert_eq!(rig.got(&one), "MSG a 1 1\r\nx\r\n".repeat(2));
    assert_eq!(rig.hub.len(), 0);
}

#[test]
fn a_group_passes_over_members_that_are_over() {
    let mut rig = Rig::new();
    let (one, two) = (rig.client(), rig.client());
    rig.subscribe(&one, "a", Some("q"), "1").limit(1);
    rig.subscribe(&two, "a", Some("q"), "1");
    for _ in 0..20 {
        assert_eq!(rig.publish("a", "x"), 1);
    }
    assert!(rig.got(&one).matches("MSG").count() <= 1);
    assert!(rig.got(&two).matches("MSG").count() >= 19);
}

#[test]
fn a_client_without_headers_gets_the_body_alone() {
    let mut rig = Rig::new();
    let (with, without) = (rig.client(), rig.client());
    without.set_options(false, true);
    rig.subscribe(&with, "a", None, "1");
    rig.subscribe(&without, "a", None, "2");
    let message =
        Message { subject: b"a", reply: Some(b"r"), headers_len: Some(12), payload: b"NATS/1.0\r\n\r\nbody" };
    assert_eq!(rig.fanout.publish(&message, None), 2);
    assert_eq!(rig.got(&with), "HMSG a 1 r 12 16\r\nNATS/1.0\r\n\r\nbody\r\n");
    assert_eq!(rig.got(&without), "MSG a 2 r 4\r\nbody\r\n");
}

#[test]
fn a_client_that_wants_no_echo_is_left_out_of_its_own() {
    let mut rig = Rig::new();
    let (own, other) = (rig.client(), rig.client());
    rig.subscribe(&own, "a", None, "1");
    rig.subscribe(&other, "a", None, "1");
    rig.subscribe(&own, "a", Some("q"), "2");
    let message = Message { subject: b"a", reply: None, headers_len: None, payload: b"x" };
    assert_eq!(rig.fanout.publish(&message, Some(own.id)), 1);
    assert_eq!((rig.got(&own), rig.got(&other)), (String::new(), "MSG a 1 1\r\nx\r\n".to_owned()));
}

#[test]
fn long_bodies_arrive_whole_at_many() {
    let mut rig = Rig::new();
    let clients = [rig.client(), rig.client()];
    for client in &clients {
        rig.subscribe(client, "a", None, "1");
    }
    for len in [BY_REFERENCE_LEN - 1, BY_REFERENCE_LEN, BY_REFERENCE_LEN + 1, 100_000] {
        let body = "z".repeat(len);
        assert_eq!(rig.publish("a", &body), 2);
        for client in &clients {
            assert_eq!(rig.got(client), format!("MSG a 1 {len}\r\n{body}\r\n"));
        }
    }
}

#[test]
fn a_receiver_that_does_not_read_is_cut_off_and_the_publisher_is_told_before() {
    let mut rig = Rig::new();
    let (slow, quick) = (rig.client(), rig.client());
    rig.subscribe(&slow, "a", None, "1");
    rig.subscribe(&quick, "a", None, "1");
    let body = "z".repeat(PENDING_MAX / 8);
    let mut warned = false;
    for _ in 0..8 {
        rig.publish("a", &body);
        warned |= rig.fanout.flush(PENDING_MAX).is_some_and(|laggard| laggard.client.id == slow.id);
        taken(&quick);
    }
    assert!(warned && slow.is_slow() && !quick.is_slow());
}

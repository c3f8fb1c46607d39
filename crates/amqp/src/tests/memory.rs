//! Memory that is used up: publishers wait and are told, consumers go on.

use super::*;

/// The start of a message that is longer than what is sent of it.
async fn begin(peer: &mut Peer, announced: usize, sent: usize) {
    let mut out = Vec::new();
    let routing_key = crate::codec::Key(b"q");
    put_method(
        &mut out,
        1,
        Method::BasicPublish { ticket: 0, exchange: "", routing_key, mandatory: false, immediate: false },
    );
    put_content(&mut out, 1, &[0, 0], announced);
    peer.send_bytes(&out).await;
    more(peer, sent).await;
}

/// So many bytes more of it.
async fn more(peer: &mut Peer, len: usize) {
    let mut frames = wire::Gathered::default();
    put_body(&mut frames, 1, &vec![b'x'; len].into(), 100_000);
    let mut pieces = vec![std::io::IoSlice::new(&[]); 4_096];
    let count = frames.pieces(0, &mut pieces);
    for piece in &pieces[..count] {
        // The other side may have given it up.
        let _given_up = peer.stream.write_all(piece).await;
    }
}

/// A tenth of that, 4 MiB, is for messages under way.
fn budget() -> BrokerOptions {
    BrokerOptions { memory_budget_len: 40 << 20, ..BrokerOptions::default() }
}

#[tokio::test]
async fn a_publisher_is_blocked_while_memory_is_used_up_and_goes_on_when_there_is_some() {
    let rig = Rig::over(Options::default(), budget());
    let mut first = rig.connect().await;
    first.declare("q").await;
    begin(&mut first, (3 << 20) + 50_000, 3 << 20).await;
    let mut second = rig.connect().await;
    begin(&mut second, 3 << 20, 2 << 20).await;
    second.expect("ConnectionBlocked { reason: \"low on memory\" }").await;
    // Consumers go on meanwhile, and a message of one frame takes no memory that is shared.
    let mut third = rig.connect().await;
    third.consume("q", "t", true).await;
    third.publish(("", "q"), "short").await;
    assert_eq!(third.message().await.text(), "short");
    second.expect_nothing().await;
    more(&mut first, 50_000).await;
    second.expect("ConnectionUnblocked").await;
    more(&mut second, 1 << 20).await;
    let lens: Vec<usize> = third.messages(2).await.iter().map(|message| message.body.len()).collect();
    assert_eq!(lens, [(3 << 20) + 50_000, 3 << 20]);
}

#[tokio::test]
async fn messages_under_way_that_wait_for_each_other_do_not_wait_for_ever() {
    let options = Options { memory_wait: Duration::from_millis(300), ..Options::default() };
    let rig = Rig::over(options, budget());
    let mut first = rig.connect().await;
    first.declare("q").await;
    begin(&mut first, (3 << 20) + 50_000, 3 << 20).await;
    let mut second = rig.connect().await;
    begin(&mut second, 4 << 20, 2 << 20).await;
    second.expect("ConnectionBlocked { reason: \"low on memory\" }").await;
    let text = "RESOURCE_ERROR - memory for messages that have not arrived whole is used up";
    second.expect_close(506, text).await;
    // The first one is not harmed.
    more(&mut first, 50_000).await;
    first.sync().await;
    assert_eq!(first.counts("q").await.0, 1);
}

#[tokio::test]
async fn a_transaction_that_ends_gives_its_memory_to_others_at_once() {
    for (ending, answer) in [(Method::TxRollback {}, "TxRollbackOk"), (Method::TxCommit {}, "TxCommitOk")] {
        let rig = Rig::over(Options::default(), budget());
        let (mut first, mut second) = (rig.connect().await, rig.connect().await);
        first.declare("q").await;
        first.send(1, Method::TxSelect {}).await;
        first.expect("TxSelectOk").await;
        first.publish_on(1, ("", "q"), persistent(), &vec![b'x'; 3 << 20]).await;
        first.sync().await;
        first.send(1, ending).await;
        first.expect(answer).await;
        second.publish_on(1, ("", "q"), persistent(), &vec![b'x'; 3 << 20]).await;
        let expected = if answer == "TxCommitOk" { 2 } else { 1 };
        assert_eq!(second.counts("q").await.0, expected, "{answer}");
    }
}

#[tokio::test]
async fn dead_letters_in_memory_wait_for_memory() {
    // Records in memory have 18 hundredths of that.
    let rig = Rig::over(Options::default(), budget());
    let memory_max = (40 << 20) * 18 / 100;
    let mut peer = rig.connect().await;
    peer.declare_with("dead", Flags { transient: true, ..Flags::default() }, &[]).await;
    large::reject_at_once(&mut peer, 60).await;
    let mut other = rig.connect().await;
    for _ in 0..6_000 {
        let held = rig.server.broker.storage().unwrap().volatile_len;
        assert!(held <= memory_max + (5 << 20), "{held} bytes are in memory");
        if other.counts("dead").await.0 == 60 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the letters did not all arrive");
}

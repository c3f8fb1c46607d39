//! Storage that fails: nothing is answered as if it were kept.

use super::*;

/// The names of the methods until the connection ends.
async fn rest(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((kind, _, payload)) = peer.frame().await {
        assert_eq!(kind, FrameKind::Method);
        let method = format!("{:?}", Method::read(&payload).unwrap());
        let is_close = method.starts_with("ConnectionClose ");
        all.push(method);
        if is_close {
            peer.send(0, Method::ConnectionCloseOk {}).await;
        }
    }
    all
}

#[tokio::test]
async fn a_message_whose_sync_failed_is_not_confirmed() {
    let (rig, wrong) = Rig::on_faulty_disk(Options::default(), BrokerOptions::default());
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    wrong.sync.store(true, Ordering::SeqCst);
    peer.publish(("", "q"), "a").await;
    let methods = rest(&mut peer).await;
    assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{methods:?}");
}

#[tokio::test]
async fn nothing_is_declared_bound_purged_or_committed_on_storage_that_fails() {
    for what in ["declare", "exchange", "bind", "purge", "commit"] {
        let (rig, wrong) = Rig::on_faulty_disk(Options::default(), BrokerOptions::default());
        let mut peer = rig.connect().await;
        peer.declare("q").await;
        peer.exchange("e", "fanout", &[]).await;
        peer.publish(("", "q"), "a").await;
        peer.sync().await;
        if what == "commit" {
            peer.send(1, Method::TxSelect {}).await;
            peer.expect("TxSelectOk").await;
        }
        wrong.sync.store(true, Ordering::SeqCst);
        let (routing_key, arguments) = (crate::codec::Key(b"k"), Table::default());
        match what {
            "declare" => peer.ask_declare("other", Flags::default(), &[]).await,
            "exchange" => peer.ask_exchange("other", "topic", &[]).await,
            "bind" => {
                let (queue, exchange) = ("q", "e");
                let bind =
                    Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
                peer.send(1, bind).await;
            }
            "purge" => peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await,
            _ => {
                peer.publish(("", "q"), "in a transaction").await;
                peer.send(1, Method::TxCommit {}).await;
            }
        }
        let methods = rest(&mut peer).await;
        assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{what}: {methods:?}");
    }
}

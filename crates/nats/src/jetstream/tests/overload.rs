//! More than the disk takes, and subscribers that do not read.

use std::time::Duration;

use super::*;

/// Messages that are sent without waiting for anything, and the bytes of each.
const COUNT: usize = 8_000;
const LEN: usize = 4_096;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_disk_takes_is_acknowledged_in_its_time_and_nobody_else_waits() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a"]})).await;
    rig.reopen(50);
    let began = tokio::time::Instant::now();
    let (mut publisher, mut collector) = (rig.client().await, Asker { peer: rig.client().await });
    collector.peer.send("SUB acks 1\r\n").await;
    collector.peer.sync().await;
    let publishing = tokio::spawn(async move {
        let message = format!("PUB a acks {LEN}\r\n{}\r\n", "x".repeat(LEN));
        for _ in 0..COUNT {
            publisher.send(&message).await;
        }
        publisher
    });
    let (mut service, mut client) = (Asker { peer: rig.client().await }, Asker::new(&rig).await);
    service.peer.send("SUB svc 1\r\n").await;
    service.peer.sync().await;
    let asking = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let began = tokio::time::Instant::now();
            client.peer.send("PUB svc re 1\r\n?\r\n").await;
            assert_eq!(
                (service.line().await, service.line().await),
                ("MSG svc 1 re 1\r\n".into(), "?\r\n".into())
            );
            service.peer.send("PUB re 1\r\n!\r\n").await;
            assert_eq!(client.answer().await.1, "!");
            longest = longest.max(began.elapsed());
        }
        longest
    });
    for seq in 1..=COUNT {
        let text = format!("{{\"stream\":\"S\",\"seq\":{seq}}}");
        let head = collector.line().await;
        assert!(head.starts_with("MSG acks 1 "), "{head}");
        assert_eq!(collector.line().await.trim_end(), text);
    }
    drop(publishing.await.unwrap());
    let longest = asking.await.unwrap();
    let most = Duration::from_secs(2).max(began.elapsed() / 4);
    assert!(longest < most, "somebody else waited for {longest:?} of {:?}", began.elapsed());
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.state("S").await, [COUNT as u64, 1, COUNT as u64]);
}

#[tokio::test]
async fn a_subscriber_of_a_consumer_that_does_not_read_is_cut_off_and_the_others_are_served() {
    let rig = Rig::with(crate::Options { pending_len_max: 1 << 20, ..crate::Options::default() });
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a"]})).await;
    let body = "x".repeat(LEN);
    for _ in 0..COUNT / 10 {
        asker.ask("a", &body).await;
    }
    let mut slow = rig.client().await;
    slow.send("SUB slow 7\r\n").await;
    slow.sync().await;
    for (name, to) in [("slow", "slow"), ("quick", "quick")] {
        let config = json!({"durable_name": name, "deliver_subject": to, "ack_policy": "none"});
        let made = asker
            .api(&format!("CONSUMER.CREATE.S.{name}"), json!({"stream_name": "S", "config": config}))
            .await;
        assert_eq!(err_code(&made), 0, "{made}");
    }
    let mut quick = Asker { peer: rig.client().await };
    quick.peer.send("SUB quick 8\r\n").await;
    for _ in 0..COUNT / 10 {
        let head = quick.line().await;
        assert!(head.starts_with("MSG a 8 $JS.ACK.S.quick.1."), "{head}");
        quick.line().await;
    }
    // The publishers and the rest of the server never waited for it.
    asker.ask("a", &body).await;
    let got = slow.rest().await;
    assert!(got.len() < COUNT / 10 * LEN, "{} bytes", got.len());
}

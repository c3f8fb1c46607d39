//! What monitoring reads.

use std::collections::BTreeMap;

use super::*;

fn ask(rig: &Rig, path: &str, query: &[(&str, &str)]) -> serde_json::Value {
    let query: BTreeMap<String, String> =
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    rig.server.monitor(path, &query).unwrap()
}

#[tokio::test]
async fn connections_and_their_traffic_are_counted_also_when_they_are_gone() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    one.send("SUB a 1\r\nSUB b 2\r\nUNSUB 2\r\n").await;
    one.sync().await;
    two.send("PUB a 3\r\nxyz\r\nPUB b 2\r\nxy\r\n").await;
    two.sync().await;
    one.expect("MSG a 1 3\r\nxyz\r\n").await;
    let listed = ask(&rig, "/connz", &[("sort", "msgs_from")]);
    assert_eq!((&listed["num_connections"], &listed["total"]), (&2.into(), &2.into()));
    let [publisher, subscriber] = [0, 1].map(|at| &listed["connections"][at]);
    assert_eq!((&publisher["in_msgs"], &publisher["in_bytes"]), (&2.into(), &5.into()));
    assert_eq!((&subscriber["out_msgs"], &subscriber["subscriptions"]), (&1.into(), &1.into()));
    assert_eq!(subscriber["pending_bytes"], 0);
    let cid = subscriber["cid"].to_string();
    assert_eq!(ask(&rig, "/connz", &[("cid", &cid)])["num_connections"], 1);
    assert_eq!(ask(&rig, "/connz", &[("limit", "1"), ("offset", "1")])["num_connections"], 1);
    let subs = ask(&rig, "/subsz", &[]);
    assert_eq!(
        (&subs["num_subscriptions"], &subs["num_inserts"], &subs["num_removes"]),
        (&1.into(), &2.into(), &1.into())
    );
    for peer in [&mut one, &mut two] {
        peer.stream.shutdown().await.unwrap();
        peer.rest().await;
    }
    let server = rig.settled(|varz| varz["connections"] == 0).await;
    assert_eq!(
        (&server["in_msgs"], &server["out_msgs"], &server["total_connections"]),
        (&2.into(), &1.into(), &2.into())
    );
    assert_eq!((&server["pending_bytes"], &server["subscriptions"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn what_waits_for_all_is_bounded_and_who_does_not_read_pays() {
    let rig = Rig::with(Options { pending_total_len_max: 1 << 18, ..Options::default() });
    let (mut slow, mut quick, mut publisher) = (rig.client().await, rig.client().await, rig.client().await);
    for peer in [&mut slow, &mut quick] {
        peer.send("SUB a 1\r\n").await;
        peer.sync().await;
    }
    let body = "z".repeat(8_000);
    let received = format!("MSG a 1 8000\r\n{body}\r\n");
    for _ in 0..300 {
        publisher.send(&format!("PUB a 8000\r\n{body}\r\n")).await;
        quick.expect(&received).await;
    }
    publisher.sync().await;
    let server = rig.settled(|varz| varz["slow_consumers"] == 1).await;
    assert_eq!((&server["pending_bytes"], &server["connections"]), (&0.into(), &2.into()));
    let got = slow.rest().await;
    assert!(got.len() < 300 * received.len(), "{} bytes", got.len());
}

#[tokio::test]
async fn jsz_counts_streams_and_consumers() {
    let rig = Rig::new();
    let jsz = |query: &[(&str, &str)]| {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rig.server.monitor("/jsz", &query).unwrap()
    };
    assert_eq!(jsz(&[])["streams"], 0);
    let mut peer = rig.client().await;
    peer.send("PUB $JS.API.STREAM.CREATE.S 12\r\n{\"name\":\"S\"}\r\n").await;
    peer.sync().await;
    let all = jsz(&[("consumers", "true")]);
    assert_eq!(all["streams"], 1, "{all}");
    assert_eq!(all["account_details"][0]["stream_detail"][0]["name"], "S", "{all}");
}

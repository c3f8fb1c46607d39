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
async fn subscriptions_are_listed_by_client_and_all_together_as_they_are_asked_for() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    one.send("SUB a.* 1\r\nSUB b workers w1\r\nUNSUB w1 5\r\n").await;
    one.sync().await;
    two.send("SUB a.x 9\r\nPUB a.x 1\r\nz\r\nPUB b 1\r\nz\r\n").await;
    two.expect("MSG a.x 9 1\r\nz\r\n").await;
    one.expect("MSG a.x 1 1\r\nz\r\nMSG b w1 1\r\nz\r\n").await;
    let plain = ask(&rig, "/connz", &[("sort", "subs")]);
    assert!(plain["connections"][0].get("subscriptions_list").is_none(), "{plain}");
    let listed = ask(&rig, "/connz", &[("sort", "subs"), ("subs", "1")]);
    let [first, second] = [0, 1].map(|at| &listed["connections"][at]);
    let mut subjects: Vec<&str> =
        first["subscriptions_list"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!((subjects, &second["subscriptions_list"]), (vec!["a.*", "b"], &serde_json::json!(["a.x"])));
    // What nats-top shows of a connection.
    for field in ["cid", "ip", "port", "pending_bytes", "in_msgs", "out_msgs", "in_bytes", "out_bytes"]
        .into_iter()
        .chain(["subscriptions", "uptime", "last_activity", "start", "idle"])
    {
        assert!(first.get(field).is_some(), "{field}: {first}");
    }
    let in_detail = ask(&rig, "/connz", &[("sort", "subs"), ("subs", "detail")]);
    let details = in_detail["connections"][0]["subscriptions_list_detail"].as_array().unwrap();
    let queued = details.iter().find(|one| one["sid"] == "w1").unwrap();
    let cid = &first["cid"];
    let expected = serde_json::json!(
        {"subject": "b", "qgroup": "workers", "sid": "w1", "msgs": 1, "max": 5, "cid": cid});
    assert_eq!(*queued, expected);
    let all = ask(&rig, "/subsz", &[("subs", "1")]);
    let listed = all["subscriptions_list"].as_array().unwrap();
    assert_eq!((listed.len(), &all["num_subscriptions"], &all["total"]), (3, &3.into(), &3.into()));
    assert!(listed.iter().all(|one| one["account"] == "$G"), "{all}");
    assert!(listed.iter().any(|one| one["qgroup"] == "workers" && one["cid"] == *cid), "{all}");
    let page = ask(&rig, "/subsz", &[("subs", "1"), ("offset", "2"), ("limit", "5")]);
    assert_eq!(page["subscriptions_list"].as_array().unwrap().len(), 1);
    assert!(ask(&rig, "/subsz", &[]).get("subscriptions_list").is_none());
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

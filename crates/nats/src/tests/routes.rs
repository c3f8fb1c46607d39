//! Subjects as ends of routes.

use std::time::Instant;

use broker::{
    StreamSettings, StreamSpec,
    routing::{Entrance, Target, Template},
};
use model::{Namespace, StreamKey};

use super::*;

fn key(name: &str) -> StreamKey {
    StreamKey::log(&Namespace::default(), name)
}

async fn log(rig: &Rig, name: &str, settings: StreamSettings) {
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    rig.server.broker.create_stream(key(name), spec).await.unwrap();
}

async fn route(rig: &Rig, from: &str, to: impl Into<Target>) {
    rig.server.broker.add_route(&Namespace::default(), from, to, None).await.unwrap();
}

fn subject(name: &str) -> Target {
    let name = Template::for_address(name).unwrap();
    Target::Address(Entrance { namespace: Namespace::default(), dialect: "nats".into(), scope: None, name })
}

fn count(rig: &Rig, name: &str) -> u64 {
    rig.server.broker.stream(&key(name)).unwrap().partitions()[0].staged_end().0
}

#[tokio::test]
async fn a_publish_goes_along_the_routes_that_match_and_one_that_is_denied_does_not() {
    let rig = Rig::new();
    log(&rig, "orders", StreamSettings::default()).await;
    route(&rig, "nats:orders.>", key("orders")).await;
    let spec = UserSpec {
        credentials: vec![Credentials::Password("secret".to_owned())],
        permissions: Some(vec![Permission::allow(Action::Write, "orders.open.*")]),
        ..UserSpec::default()
    };
    rig.server.broker.users().put("u", spec).await.unwrap();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"secret\"}\r\n").await;
    peer.sync().await;
    peer.send("PUB orders.shut.1 1\r\nx\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Publish to \"orders.shut.1\"'\r\n").await;
    peer.send("PUB orders.open.1 1\r\nx\r\nPUB elsewhere 1\r\nx\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Publish to \"elsewhere\"'\r\n").await;
    peer.sync().await;
    assert_eq!(count(&rig, "orders"), 1);
}

#[tokio::test]
async fn whoever_asks_is_told_where_a_routed_publish_is_stored_or_why_not() {
    let rig = Rig::new();
    log(&rig, "orders", StreamSettings { record_len_max: Some(3), ..StreamSettings::default() }).await;
    route(&rig, "nats:orders", key("orders")).await;
    let mut peer = rig.client().await;
    peer.send("SUB r 1\r\nPUB orders r 3\r\nfit\r\nPUB orders r 4\r\nlong\r\n").await;
    peer.expect("MSG r 1 27\r\n{\"stream\":\"orders\",\"seq\":1}\r\n").await;
    let told = "{\"error\":{\"code\":503,\"err_code\":10077,\"description\":\"orders: a record is too large\"},\"stream\":\"\",\"seq\":0}";
    peer.expect(&format!("MSG r 1 {}\r\n{told}\r\n", told.len())).await;
    peer.send("PUB orders 4\r\nlong\r\n").await;
    peer.expect(
        "-ERR 'Permissions Violation for Publish to \"orders\": not stored in orders: a record is too large'\r\n",
    )
    .await;
    assert_eq!(count(&rig, "orders"), 1);
}

#[tokio::test]
async fn a_routed_publish_is_not_acknowledged_before_the_sync() {
    let mut rig = Rig::new();
    log(&rig, "orders", StreamSettings::default()).await;
    route(&rig, "nats:orders", key("orders")).await;
    rig.reopen(200);
    let mut peer = rig.client().await;
    let began = Instant::now();
    peer.send("SUB r 1\r\nPUB orders r 1\r\nx\r\n").await;
    peer.expect("MSG r 1 27\r\n{\"stream\":\"orders\",\"seq\":1}\r\n").await;
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn subjects_that_lead_to_each_other_bring_a_message_once() {
    let rig = Rig::new();
    route(&rig, "nats:one.*", subject("two.{token.2}")).await;
    route(&rig, "nats:two.*", subject("one.{token.2}")).await;
    let mut peer = rig.client().await;
    peer.send("SUB one.* 1\r\nSUB two.* 2\r\nHPUB one.x 18 19\r\nNATS/1.0\r\nA: b\r\n\r\n!\r\n").await;
    // What a route brings is handed over when it is staged, what the session itself gathered at the end of the read.
    peer.expect("HMSG two.x 2 18 19\r\nNATS/1.0\r\nA: b\r\n\r\n!\r\n").await;
    peer.expect("HMSG one.x 1 18 19\r\nNATS/1.0\r\nA: b\r\n\r\n!\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn the_server_s_own_subjects_are_no_ends_of_routes() {
    let rig = Rig::new();
    log(&rig, "all", StreamSettings::default()).await;
    route(&rig, "nats:>", key("all")).await;
    let mut peer = rig.client().await;
    peer.send("SUB r 1\r\nPUB $JS.API.INFO r 0\r\n\r\n").await;
    assert!(peer.line().await.starts_with("MSG r 1 "));
    assert_eq!(count(&rig, "all"), 0);
    for name in ["$JS.API.INFO", "$SYS.x", "a.*", "a..b", ">"] {
        let added = rig.server.broker.add_route(&Namespace::default(), "nats:a", subject(name), None).await;
        assert_eq!(added.unwrap_err().kind(), model::ErrorKind::Invalid, "{name}");
    }
}

#[tokio::test]
async fn no_route_begins_where_no_publish_would_follow_it() {
    let rig = Rig::new();
    log(&rig, "orders", StreamSettings::default()).await;
    for from in ["nats:$JS.>", "nats:$SYS.REQ.*", "nats:a..b", "nats:.a", "nats:a."] {
        let added = rig.server.broker.add_route(&Namespace::default(), from, key("orders"), None).await;
        assert_eq!(added.unwrap_err().kind(), model::ErrorKind::Invalid, "{from}");
    }
}

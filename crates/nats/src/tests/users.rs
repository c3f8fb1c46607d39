//! Users that change while their sessions are there.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, ReadBuf};

use super::*;

const REFUSED: &str = "-ERR 'Authorization Violation'\r\n";

async fn put(rig: &Rig, name: &str, password: Option<&str>, permissions: &[(Action, &str)]) {
    let permissions: Vec<_> =
        permissions.iter().map(|(action, pattern)| Permission::allow(*action, pattern)).collect();
    let spec = UserSpec {
        credentials: password.map(|text| Credentials::Password(text.to_owned())).into_iter().collect(),
        permissions: (!permissions.is_empty()).then_some(permissions),
        ..UserSpec::default()
    };
    rig.server.broker.users().put(name, spec).await.unwrap();
}

async fn client_of(rig: &Rig, name: &str) -> Peer {
    let mut peer = rig.connect().await;
    peer.send(&connect_as(name, "secret")).await;
    peer.sync().await;
    peer
}

#[tokio::test]
async fn the_sessions_of_a_user_that_is_removed_or_has_another_password_end() {
    let rig = Rig::new();
    for name in ["gone", "changed", "stays"] {
        put(&rig, name, Some("secret"), &[]).await;
    }
    let (mut gone, mut changed, mut stays) =
        (client_of(&rig, "gone").await, client_of(&rig, "changed").await, client_of(&rig, "stays").await);
    rig.server.broker.users().delete("gone").await.unwrap();
    assert_eq!(gone.rest().await, REFUSED);
    changed.sync().await;
    put(&rig, "changed", Some("other"), &[]).await;
    assert_eq!(changed.rest().await, REFUSED);
    stays.sync().await;
}

#[tokio::test]
async fn who_came_in_while_there_were_no_users_goes_with_the_first() {
    let rig = Rig::new();
    let mut peer = rig.client().await;
    put(&rig, "first", Some("secret"), &[]).await;
    assert_eq!(peer.rest().await, REFUSED);
}

#[tokio::test]
async fn permissions_that_change_hold_for_sessions_that_are_there() {
    let rig = Rig::new();
    put(&rig, "root", Some("secret"), &[]).await;
    put(&rig, "u", Some("secret"), &[(Action::Read, "*"), (Action::Write, "*")]).await;
    let (mut peer, mut root) = (client_of(&rig, "u").await, client_of(&rig, "root").await);
    peer.send("SUB a.> 1\r\nSUB b.> q 2\r\nSUB c 3\r\nPUB w 1\r\nx\r\n").await;
    peer.sync().await;
    let permissions = [
        Permission::allow(Action::Read, "a.>"),
        Permission::allow(Action::Read, "a.*"),
        Permission::deny(Action::Read, "a.secret"),
        Permission::allow(Action::Read, "c"),
    ];
    let spec = UserSpec { permissions: Some(permissions.to_vec()), ..UserSpec::default() };
    rig.server.broker.users().put("u", spec).await.unwrap();
    peer.expect("-ERR 'Permissions Violation for Subscription to \"b.>\" using queue \"q\"'\r\n").await;
    root.send("PUB a.secret 1\r\nx\r\nPUB b.x 1\r\nx\r\nPUB a.open 1\r\ny\r\nPUB c 1\r\nz\r\n").await;
    peer.expect("MSG a.open 1 1\r\ny\r\nMSG c 3 1\r\nz\r\n").await;
    peer.send("PUB w 1\r\nx\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Publish to \"w\"'\r\n").await;
    peer.sync().await;
}

/// A client that always has more to say, until then.
struct Flood {
    has_connected: bool,
    until: Instant,
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_connected, true) {
            buf.put_slice(b"CONNECT {\"verbose\":false}\r\n");
        } else if Instant::now() < self.until {
            buf.put_slice(b"PUB a 1\r\nx\r\n");
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_never_stops_sending_goes_with_its_user_all_the_same() {
    let rig = Rig::new();
    let reader = Flood { has_connected: false, until: Instant::now() + PATIENCE / 2 };
    let mut told = tokio::io::duplex(1 << 20);
    let address = "127.0.0.1:4222".parse().unwrap();
    let info =
        ConnectionInfo { peer: address, local: address, advertised: None, is_tls: false, greeted: None };
    let stream = tokio::io::join(reader, told.1);
    let serving = tokio::spawn(rig.server.clone().serve_connection(stream, info, rig.stop.subscribe()));
    put(&rig, "first", Some("secret"), &[]).await;
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    let mut seen = String::new();
    told.0.read_to_string(&mut seen).await.unwrap();
    assert!(seen.ends_with(REFUSED), "{seen}");
}

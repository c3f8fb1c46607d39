//! Users that change while their connections are open.

use broker::{Action, Credentials, Permission, UserSpec};

use super::*;

/// Ann may do this, and nothing else.
async fn may(rig: &Rig, permissions: Vec<Permission>) {
    let credentials = vec![Credentials::Password("secret".into())];
    let spec = UserSpec { permissions: Some(permissions), credentials, ..UserSpec::default() };
    rig.server.broker.users().put("ann", spec).await.unwrap();
}

/// A connection of hers.
async fn ann(rig: &Rig) -> Peer {
    let mut peer = rig.raw();
    peer.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
    peer.expect("ConnectionOpenOk").await;
    peer.open(1).await;
    peer
}

fn refused(verb: &str, what: &str, name: &str) -> String {
    format!("ACCESS_REFUSED - {verb} access to {what} '{name}' in vhost '/' refused for user 'ann'")
}

#[tokio::test]
async fn connections_of_a_user_that_is_deleted_end_and_no_others() {
    let rig = Rig::new();
    let mut anybody = rig.connect().await;
    may(&rig, vec![Permission::allow(Action::Admin, "*")]).await;
    let spec = UserSpec { credentials: vec![Credentials::Password("b".into())], ..UserSpec::default() };
    rig.server.broker.users().put("bob", spec).await.unwrap();
    let mut hers = ann(&rig).await;
    let mut idle = rig.raw();
    idle.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
    idle.expect("ConnectionOpenOk").await;
    let mut bobs = rig.raw();
    bobs.shake_hands("PLAIN", b"\0bob\0b", "/").await;
    bobs.expect("ConnectionOpenOk").await;
    bobs.open(1).await;
    hers.declare_with("hers alone", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    rig.server.broker.users().delete("ann").await.unwrap();
    hers.expect_close(320, "CONNECTION_FORCED - user 'ann' is deleted").await;
    idle.expect_close(320, "CONNECTION_FORCED - user 'ann' is deleted").await;
    for peer in [&mut bobs, &mut anybody] {
        peer.ask_declare("hers alone", Flags { passive: true, ..Flags::default() }, &[]).await;
        peer.expect_close(404, "NOT_FOUND - no queue 'hers alone' in vhost '/'").await;
    }
}

#[tokio::test]
async fn what_a_user_may_no_longer_do_is_refused_on_channels_that_are_open() {
    let rig = Rig::new();
    rig.connect().await.declare("q").await;
    let write = |pattern| Permission::allow(Action::Write, pattern);
    may(&rig, vec![write("*"), Permission::allow(Action::Read, "q")]).await;
    let mut peer = ann(&rig).await;
    peer.confirm().await;
    peer.publish(("", "q"), "as long as she may").await;
    peer.expect("BasicAck").await;
    peer.consume("q", "t", false).await;
    assert_eq!(peer.message().await.text(), "as long as she may");
    may(&rig, vec![write("other")]).await;
    assert_eq!(peer.method().await, "BasicCancel { consumer_tag: \"t\", nowait: true }");
    peer.publish(("", "q"), "no longer").await;
    peer.expect_close(403, &refused("write", "exchange", "amq.default")).await;
    // And once she may again, at once.
    may(&rig, vec![write("amq.default"), Permission::allow(Action::Read, "q")]).await;
    for _ in 0..100 {
        peer.send(1, Method::BasicGet { ticket: 0, queue: "q", no_ack: false }).await;
        if peer.method().await.starts_with("BasicGetOk") {
            return;
        }
        peer.send(1, Method::ChannelCloseOk {}).await;
        peer.open(1).await;
    }
    panic!("she may read");
}

#[tokio::test]
async fn a_user_that_moves_to_another_tenant_leaves_the_virtual_host() {
    let rig = Rig::new();
    may(&rig, vec![Permission::allow(Action::Admin, "*")]).await;
    let mut peer = ann(&rig).await;
    let spec = UserSpec { tenant: Some("other".into()), ..UserSpec::default() };
    rig.server.broker.users().put("ann", spec).await.unwrap();
    peer.expect_close(320, "CONNECTION_FORCED - user 'ann' has another tenant").await;
}

#[tokio::test]
async fn the_default_exchange_is_called_amq_default_in_permissions() {
    let rig = Rig::new();
    rig.connect().await.declare("q").await;
    let write = |pattern| Permission::allow(Action::Write, pattern);
    let deny = |pattern| Permission::deny(Action::Write, pattern);
    for (permissions, is_allowed) in [
        (vec![write("amq.default")], true),
        (vec![write("amq.*")], true),
        (vec![write("*")], true),
        (vec![write("q")], false),
        (vec![write("*"), deny("amq.default")], false),
        (vec![write("*"), deny("amq.*")], false),
        (vec![write("*"), deny("q")], true),
    ] {
        may(&rig, permissions.clone()).await;
        let mut peer = ann(&rig).await;
        peer.confirm().await;
        peer.publish(("", "q"), "x").await;
        match is_allowed {
            true => assert!(peer.method().await.starts_with("BasicAck"), "{permissions:?}"),
            false => peer.expect_close(403, &refused("write", "exchange", "amq.default")).await,
        }
    }
}

//! Who is let in, and what they may do.

use broker::UserChange;

use super::*;
use crate::nkey::tests::{pair, sign};

async fn with_user(permissions: &[Permission]) -> Rig {
    let rig = Rig::new();
    let spec = UserSpec {
        credentials: vec![Credentials::Password("secret".to_owned())],
        permissions: (!permissions.is_empty()).then(|| permissions.to_vec()),
        ..UserSpec::default()
    };
    rig.server.broker.users().put("u", spec).await.unwrap();
    rig
}

async fn client_of(rig: &Rig) -> Peer {
    let mut peer = rig.connect().await;
    peer.send(r#"CONNECT {"verbose":false,"headers":true,"no_responders":true,"user":"u","pass":"secret"}"#)
        .await;
    peer.send("\r\n").await;
    peer.sync().await;
    peer
}

#[tokio::test]
async fn a_token_lets_its_user_in() {
    let rig = with_user(&[]).await;
    let change = UserChange { tokens: vec!["t0ken".to_owned()], ..UserChange::default() };
    rig.server.broker.users().change("u", change).await.unwrap();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {\"verbose\":false,\"auth_token\":\"t0ken\"}\r\nPING\r\n").await;
    peer.expect("PONG\r\n").await;
    let refused = "-ERR 'Authorization Violation'\r\n";
    rig.connect().await.dies_of("CONNECT {\"auth_token\":\"token\"}\r\n", refused).await;
}

#[tokio::test]
async fn the_owner_of_a_key_signs_what_it_was_sent() {
    let rig = with_user(&[]).await;
    let (pair, public) = pair(9);
    let connect = |signature: &str| {
        format!("CONNECT {{\"verbose\":false,\"nkey\":\"{public}\",\"sig\":\"{signature}\"}}\r\n")
    };
    let refused = "-ERR 'Authorization Violation'\r\n";
    rig.connect().await.dies_of(&connect("AAAA"), refused).await;
    let change = UserChange { public_keys: vec![public.clone()], ..UserChange::default() };
    rig.server.broker.users().change("u", change).await.unwrap();
    let (mut one, first) = rig.greeted().await;
    let (mut two, second) = rig.greeted().await;
    let [first, second] = [&first, &second].map(|info| info["nonce"].as_str().unwrap());
    assert_eq!((first.len(), info_has_auth(&rig).await), (15, true));
    two.dies_of(&connect(&sign(&pair, first)), refused).await;
    assert_ne!(first, second);
    one.send(&connect(&sign(&pair, first))).await;
    one.sync().await;
}

async fn info_has_auth(rig: &Rig) -> bool {
    rig.greeted().await.1["auth_required"] == true
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_in_time_is_told_and_closed() {
    let rig = with_user(&[]).await;
    assert_eq!(rig.connect().await.rest().await, "-ERR 'Authentication Timeout'\r\n");
}

#[tokio::test]
async fn what_is_denied_is_kept_out_of_what_a_pattern_brings() {
    let rig =
        with_user(&[Permission::allow(Action::Admin, "*"), Permission::deny(Action::Read, "a.secret*")])
            .await;
    let mut peer = client_of(&rig).await;
    peer.send("SUB a.secret.x 1\r\nSUB a.> 2\r\nPUB a.secret.x 1\r\nx\r\nPUB a.open 1\r\ny\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Subscription to \"a.secret.x\"'\r\n").await;
    peer.expect("MSG a.open 2 1\r\ny\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn who_was_asked_may_answer_once() {
    let rig =
        with_user(&[Permission::allow(Action::Read, "svc"), Permission::allow(Action::Respond, "*")]).await;
    let spec =
        UserSpec { credentials: vec![Credentials::Password("secret".to_owned())], ..UserSpec::default() };
    rig.server.broker.users().put("root", spec).await.unwrap();
    let mut service = client_of(&rig).await;
    let mut asker = rig.connect().await;
    asker.send("CONNECT {\"verbose\":false,\"user\":\"root\",\"pass\":\"secret\"}\r\nSUB r.* 1\r\n").await;
    service.send("SUB svc 1\r\nPUB r.1 2\r\nno\r\n").await;
    service.expect("-ERR 'Permissions Violation for Publish to \"r.1\"'\r\n").await;
    service.sync().await;
    asker.send("PUB svc r.1 1\r\n?\r\n").await;
    service.expect("MSG svc 1 r.1 1\r\n?\r\n").await;
    service.send("PUB r.2 1\r\n!\r\nPUB r.1 1\r\n!\r\nPUB r.1 1\r\n!\r\n").await;
    service.expect("-ERR 'Permissions Violation for Publish to \"r.2\"'\r\n").await;
    service.expect("-ERR 'Permissions Violation for Publish to \"r.1\"'\r\n").await;
    asker.expect("MSG r.1 1 1\r\n!\r\n").await;
    asker.sync().await;
}

#[tokio::test]
async fn a_client_is_told_who_it_is() {
    let rig =
        with_user(&[Permission::allow(Action::Write, "*"), Permission::allow(Action::Read, "_INBOX.*")])
            .await;
    let mut peer = client_of(&rig).await;
    peer.send("SUB _INBOX.1 1\r\nPUB $SYS.REQ.USER.INFO _INBOX.1 0\r\n\r\n").await;
    let head = peer.line().await;
    assert!(head.starts_with("MSG _INBOX.1 1 "), "{head}");
    let answer: serde_json::Value = serde_json::from_str(&peer.line().await).unwrap();
    assert_eq!(answer["data"]["user"], "u");
    assert_eq!(answer["data"]["account"], "$G");
    let permissions = &answer["data"]["permissions"];
    assert_eq!(permissions["publish"]["allow"], serde_json::json!([">"]));
    assert_eq!(permissions["subscribe"]["allow"], serde_json::json!(["_INBOX.*"]));
    peer.sync().await;
}

use broker::{Credentials, Permission, UserChange, UserSpec};

use super::*;
use crate::{
    codec::{
        Request,
        api::metadata::{MetadataRequest, MetadataRequestTopic},
        decode_response, encode_request,
    },
    testing::Rig,
};

/// One connection's session, asked without a socket.
struct Client {
    session: Session,
}

impl Client {
    fn new(rig: &Rig) -> Self {
        let info = ConnectionInfo { peer: ADDRESS, local: ADDRESS, advertised: None };
        Client { session: Session::new(rig.server.clone(), info) }
    }

    async fn ask<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> Result<Vec<u8>, String> {
        let frame = encode_request(request, version, 1, None).into_bytes().slice(4..);
        let answer = match self.session.handle(frame) {
            Step::Answer(answer) => answer,
            Step::Later(answering) | Step::Barrier(answering) | Step::Poll(answering) => answering.await?,
            Step::Silent => Vec::new(),
            Step::Close(why) => return Err(why),
        };
        Ok(answer.concat().split_off(4))
    }

    async fn login(&mut self, user: &str) -> ErrorCode {
        let handshake = SaslHandshakeRequest { mechanism: "PLAIN" };
        self.ask(1, &handshake).await.unwrap();
        let message = format!("\0{user}\0secret");
        let answer = self.ask(2, &SaslAuthenticateRequest { auth_bytes: message.as_bytes() }).await.unwrap();
        decode_response::<SaslAuthenticateRequest<'_>>(&answer, 2).unwrap().1.error_code
    }

    /// What the session may know of topic `t`; why it was closed.
    async fn describe(&mut self) -> Result<ErrorCode, String> {
        let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let answer = self.ask(9, &request).await?;
        Ok(decode_response::<MetadataRequest<'_>>(&answer, 9).unwrap().1.topics[0].error_code)
    }
}

const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9_092);

async fn put(rig: &Rig, name: &str, tenant: &str, pattern: &str) {
    let spec = UserSpec {
        credentials: vec![Credentials::Password("secret".to_owned())],
        tenant: Some(tenant.to_owned()),
        permissions: Some(vec![Permission::allow(Action::Admin, pattern)]),
    };
    rig.broker().users().change(name, UserChange { spec, ..UserChange::default() }).await.unwrap();
}

#[tokio::test]
async fn a_session_may_do_what_its_user_may_do_now() {
    let rig = Rig::new();
    rig.topic("t", broker::StreamSettings::default()).await;
    put(&rig, "root", "public", "*").await;
    put(&rig, "ann", "public", "*").await;
    let mut client = Client::new(&rig);
    assert_eq!(client.login("ann").await, ErrorCode::NONE);
    assert_eq!(client.describe().await, Ok(ErrorCode::NONE));
    put(&rig, "ann", "public", "other").await;
    assert_eq!(client.describe().await, Ok(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    put(&rig, "ann", "public", "*").await;
    assert_eq!(client.describe().await, Ok(ErrorCode::NONE));
    put(&rig, "ann", "acme", "*").await;
    assert!(client.describe().await.is_err(), "it reads another tenant's names");
}

#[tokio::test]
async fn a_session_ends_with_its_user() {
    let rig = Rig::new();
    put(&rig, "root", "public", "*").await;
    put(&rig, "ann", "public", "*").await;
    let (mut ann, mut root) = (Client::new(&rig), Client::new(&rig));
    assert_eq!((ann.login("ann").await, root.login("root").await), (ErrorCode::NONE, ErrorCode::NONE));
    rig.broker().users().delete("ann").await.unwrap();
    assert!(ann.describe().await.is_err());
    assert!(root.describe().await.is_ok());
    assert_ne!(Client::new(&rig).login("ann").await, ErrorCode::NONE);
}

#[tokio::test]
async fn whoever_was_let_in_without_a_user_is_out_once_there_are_users() {
    let rig = Rig::new();
    let (mut silent, mut named) = (Client::new(&rig), Client::new(&rig));
    assert_eq!(named.login("root").await, ErrorCode::NONE, "the door is open");
    assert!(silent.describe().await.is_ok() && named.describe().await.is_ok());
    put(&rig, "root", "public", "*").await;
    assert!(silent.describe().await.is_err());
    assert!(named.describe().await.is_err(), "nobody proved to be root");
    let mut root = Client::new(&rig);
    assert_eq!(root.login("root").await, ErrorCode::NONE);
    assert!(root.describe().await.is_ok());
}

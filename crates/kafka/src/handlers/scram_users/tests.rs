use broker::{Action, Permission};

use super::*;
use crate::{
    codec::api::{
        alter_user_scram_credentials::ScramCredentialDeletion, describe_user_scram_credentials::UserName,
    },
    testing::Rig,
};

/// Gives `name` a credential, or takes it away: the code, and why.
async fn alter(ctx: &Ctx, name: &str, is_given: bool) -> (ErrorCode, String) {
    let upsertion = ScramCredentialUpsertion {
        name,
        mechanism: 1,
        iterations: 4_096,
        salt: b"salt",
        salted_password: &[7; 32],
    };
    let request = AlterUserScramCredentialsRequest {
        deletions: if is_given { Vec::new() } else { vec![ScramCredentialDeletion { name, mechanism: 1 }] },
        upsertions: if is_given { vec![upsertion] } else { Vec::new() },
    };
    let mut answer = alter_user_scram_credentials(ctx, request).await;
    let result = answer.results.remove(0);
    (result.error_code, result.error_message.map(|why| why.into_owned()).unwrap_or_default())
}

async fn described(ctx: &Ctx, name: &str) -> ErrorCode {
    let request = DescribeUserScramCredentialsRequest { users: Some(vec![UserName { name }]) };
    describe_user_scram_credentials(ctx, request).await.error_code
}

async fn with_root(rig: &Rig) {
    let credentials = vec![Credentials::Password("secret".to_owned())];
    let spec = UserSpec { credentials, ..UserSpec::default() };
    rig.broker().users().change("root", UserChange { spec, ..UserChange::default() }).await.unwrap();
}

#[tokio::test]
async fn a_tenant_s_administrator_has_no_say_about_the_server_s_users() {
    let rig = Rig::new();
    with_root(&rig).await;
    let all = [Permission::allow(Action::Admin, "*")];
    let refused = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let acme = rig.ctx_of(0, "acme", &all);
    assert_eq!(described(&acme, "root").await, refused);
    for is_given in [true, false] {
        assert_eq!(alter(&acme, "root", is_given).await.0, refused);
    }
    assert!(rig.broker().users().authenticate("root", "secret").await.is_ok());
    let public = rig.ctx_of(0, "public", &all);
    assert_eq!(described(&public, "root").await, ErrorCode::NONE);
    assert_eq!(alter(&public, "root", true).await.0, ErrorCode::NONE);
}

/// It has no password, so nobody could ask for another one.
#[tokio::test]
async fn the_first_user_is_not_one_that_locks_everybody_out_of_administration() {
    let rig = Rig::new();
    let (code, why) = alter(&rig.ctx(0), "ann", true).await;
    assert_eq!(code, ErrorCode::UNACCEPTABLE_CREDENTIAL);
    assert!(why.contains("first make a user of tenant"), "{why}");
    assert!(!rig.broker().users().any());
    with_root(&rig).await;
    for is_given in [true, false] {
        assert_eq!(alter(&rig.ctx(0), "ann", is_given).await, (ErrorCode::NONE, String::new()));
    }
    // What is left of it is who it is elsewhere.
    assert_eq!(alter(&rig.ctx(0), "root", false).await.0, ErrorCode::NONE);
    assert!(rig.broker().users().authenticate("root", "secret").await.is_ok());
}

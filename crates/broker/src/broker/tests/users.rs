use model::{ErrorKind, Result};

use crate::{
    Action, Credentials, Identity, LastUser, Permission, ScramHash, UserChange, UserSpec,
    testing::{Rig, wait},
};

fn with_password(password: &str) -> UserSpec {
    UserSpec { credentials: vec![Credentials::Password(password.into())], ..UserSpec::default() }
}

fn change(rig: &Rig, user: &str, change: UserChange) -> Result<()> {
    wait(rig.broker.users().change(user, change))
}

fn with_key(id: &str, secret: &str) -> UserChange {
    UserChange { access_keys: vec![(id.to_owned(), secret.to_owned())], ..UserChange::default() }
}

fn without_key(id: &str) -> UserChange {
    UserChange { remove_access_keys: vec![id.to_owned()], ..UserChange::default() }
}

fn with_identity(identity: Identity<'_>) -> UserChange {
    match identity {
        Identity::PublicKey(key) => UserChange { public_keys: vec![key.to_owned()], ..UserChange::default() },
        Identity::Token(token) => UserChange { tokens: vec![token.to_owned()], ..UserChange::default() },
    }
}

fn without_public_key(key: &str) -> UserChange {
    UserChange { remove_public_keys: vec![key.to_owned()], ..UserChange::default() }
}

#[test]
fn a_user_is_let_in_with_its_password_alone_also_after_a_restart() {
    let mut rig = Rig::new();
    assert!(!rig.broker.users().any());
    wait(rig.broker.users().put("ann", with_password("secret"))).unwrap();
    for _ in 0..2 {
        let users = rig.broker.users();
        assert!(users.any());
        // Twice, because the second right one is remembered.
        for _ in 0..2 {
            assert_eq!(wait(users.authenticate("ann", "secret")).unwrap().name.as_deref(), Some("ann"));
        }
        for (name, password) in [("ann", "secre"), ("ann", ""), ("bob", "secret")] {
            let refused = wait(users.authenticate(name, password)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{name} {password}");
        }
        rig.reopen();
    }
}

#[test]
fn a_changed_password_replaces_the_one_before_at_once() {
    let rig = Rig::new();
    let users = rig.broker.users();
    wait(users.put("ann", with_password("old"))).unwrap();
    wait(users.authenticate("ann", "old")).unwrap();
    wait(users.put("ann", with_password("new"))).unwrap();
    assert!(wait(users.authenticate("ann", "old")).is_err());
    assert!(wait(users.authenticate("ann", "new")).is_ok());
    wait(users.delete("ann")).unwrap();
    assert!(wait(users.authenticate("ann", "new")).is_err());
    assert_eq!(wait(users.delete("ann")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn challenge_forms_are_made_given_and_taken_away_one_by_one() {
    let rig = Rig::new();
    let users = rig.broker.users();
    wait(users.put("ann", with_password("secret"))).unwrap();
    let verifier = users.scram("ann", ScramHash::Sha256).unwrap();
    assert_eq!(verifier.iterations, 4096);
    let credentials = vec![
        Credentials::NoScram(ScramHash::Sha512),
        Credentials::Scram(ScramHash::Sha256, verifier.clone()),
    ];
    wait(users.put("ann", UserSpec { credentials, ..UserSpec::default() })).unwrap();
    assert_eq!(users.scram("ann", ScramHash::Sha512), None);
    assert_eq!(users.list()[0].scram, [(ScramHash::Sha256, 4096)]);
    assert!(wait(users.authenticate("ann", "secret")).is_ok(), "the password stays");
}

#[test]
fn permissions_and_tenant_are_those_that_were_given() {
    let rig = Rig::new();
    let users = rig.broker.users();
    let permissions = vec![Permission::allow(Action::Read, "orders.*")];
    let spec = UserSpec {
        tenant: Some("acme".into()),
        permissions: Some(permissions.clone()),
        ..with_password("secret")
    };
    wait(users.put("ann", spec)).unwrap();
    let principal = wait(users.authenticate("ann", "secret")).unwrap();
    assert_eq!(&*principal.tenant, "acme");
    assert!(principal.allows(Action::Read, "orders.eu") && !principal.allows(Action::Write, "orders.eu"));
    assert_eq!(users.list()[0].permissions, permissions);
}

#[test]
fn an_access_key_acts_for_its_user_until_either_is_gone_also_after_a_restart() {
    let mut rig = Rig::new();
    for name in ["ann", "bob"] {
        wait(rig.broker.users().put(name, with_password("secret"))).unwrap();
    }
    change(&rig, "ann", with_key("AKID1", "hush")).unwrap();
    change(&rig, "ann", with_key("AKID2", "hush2")).unwrap();
    rig.reopen();
    let users = rig.broker.users();
    let key = users.access_key("AKID1").unwrap();
    assert_eq!(key.principal.name.as_deref(), Some("ann"));
    assert_eq!(users.secret_of(&key).unwrap(), "hush");
    assert_eq!(users.access_key("AKID3"), None);
    assert_eq!(users.list()[0].access_keys, ["AKID1", "AKID2"]);

    let taken = change(&rig, "bob", with_key("AKID1", "other")).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists);
    change(&rig, "ann", with_key("AKID1", "changed")).unwrap();
    let changed = users.access_key("AKID1").unwrap();
    assert_ne!(changed.sealed, key.sealed);
    assert_eq!(users.secret_of(&changed).unwrap(), "changed");

    assert_eq!(change(&rig, "bob", without_key("AKID1")).unwrap_err().kind(), ErrorKind::NotFound);
    change(&rig, "ann", without_key("AKID1")).unwrap();
    assert_eq!(users.access_key("AKID1"), None);
    wait(users.delete("ann")).unwrap();
    wait(users.put("ann", with_password("secret"))).unwrap();
    assert_eq!(users.access_key("AKID2"), None, "a user of the same name is another user");
}

#[test]
fn an_access_key_is_visible_text_of_a_user_who_has_not_too_many() {
    let rig = Rig::new();
    let users = rig.broker.users();
    wait(users.put("ann", with_password("secret"))).unwrap();
    let long = "x".repeat(256);
    for (id, secret) in [("", "s"), ("a", ""), ("a b", "s"), ("a", "é"), (long.as_str(), "s"), ("a", &long)]
    {
        let refused = change(&rig, "ann", with_key(id, secret)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{id:?} {secret:?}");
    }
    for number in 0..16 {
        change(&rig, "ann", with_key(&format!("AKID{number}"), "hush")).unwrap();
    }
    assert_eq!(change(&rig, "ann", with_key("AKID16", "hush")).unwrap_err().kind(), ErrorKind::Limit);
    change(&rig, "ann", with_key("AKID15", "changed")).unwrap();
}

#[test]
fn a_key_or_token_stands_for_its_user_until_it_is_taken_away_also_after_a_restart() {
    let mut rig = Rig::new();
    let (key, token) = (Identity::PublicKey("UABC"), Identity::Token("s3cret"));
    wait(rig.broker.users().put("ann", with_password("secret"))).unwrap();
    wait(rig.broker.users().put("bob", with_password("secret"))).unwrap();
    assert!(!rig.broker.users().any_public_key());
    for identity in [key, token] {
        change(&rig, "ann", with_identity(identity)).unwrap();
        let taken = change(&rig, "bob", with_identity(identity)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Exists);
    }
    rig.reopen();
    let users = rig.broker.users();
    assert!(users.any_public_key());
    for identity in [key, token] {
        assert_eq!(users.identified(identity).unwrap().name.as_deref(), Some("ann"));
    }
    for unknown in [Identity::PublicKey("s3cret"), Identity::Token("UABC"), Identity::Token("")] {
        assert_eq!(users.identified(unknown), None);
    }
    assert_eq!(
        (users.list()[0].public_keys.as_slice(), users.list()[0].token_count),
        (&["UABC".to_owned()][..], 1)
    );
    assert_eq!(change(&rig, "bob", without_public_key("UABC")).unwrap_err().kind(), ErrorKind::NotFound);
    change(&rig, "ann", without_public_key("UABC")).unwrap();
    assert_eq!(users.identified(key), None);
    wait(users.delete("ann")).unwrap();
    wait(users.put("ann", with_password("secret"))).unwrap();
    assert_eq!(users.identified(token), None, "a user of the same name is another one");
}

#[test]
fn keys_and_tokens_that_cannot_be_one_are_refused() {
    let rig = Rig::new();
    let users = rig.broker.users();
    wait(users.put("ann", with_password("secret"))).unwrap();
    for text in ["", "a b", "ä", &"x".repeat(1_025)] {
        let refused = change(&rig, "ann", with_identity(Identity::Token(text))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{text}");
    }
    change(&rig, "ann", with_identity(Identity::Token(&"x".repeat(1_024)))).unwrap();
}

#[test]
fn a_change_of_a_user_is_made_whole_or_not_at_all() {
    let rig = Rig::new();
    let users = rig.broker.users();
    wait(users.put("ann", with_password("secret"))).unwrap();
    change(&rig, "ann", with_key("AKID", "hush")).unwrap();
    change(&rig, "ann", with_identity(Identity::Token("t0ken"))).unwrap();
    let text = |text: &str| vec![text.to_owned()];
    let key = |id: &str| vec![(id.to_owned(), "hush".to_owned())];
    let wrong = [
        (ErrorKind::Exists, UserChange { access_keys: key("AKID"), ..UserChange::default() }),
        (ErrorKind::Invalid, UserChange { access_keys: key("a b"), ..UserChange::default() }),
        (ErrorKind::NotFound, UserChange { remove_access_keys: text("AKID"), ..UserChange::default() }),
        (ErrorKind::Exists, UserChange { tokens: text("t0ken"), ..UserChange::default() }),
        (ErrorKind::NotFound, UserChange { remove_public_keys: text("UABC"), ..UserChange::default() }),
    ];
    let before = users.list();
    for (kind, change) in wrong {
        let change = UserChange { spec: with_password("secret"), ..change };
        assert_eq!(wait(users.change("bob", change)).unwrap_err().kind(), kind);
        assert_eq!(users.list(), before);
    }
    let change = UserChange {
        spec: with_password("secret"),
        access_keys: [key("AKID2"), key("AKID3")].concat(),
        remove_access_keys: text("AKID3"),
        public_keys: text("UX"),
        ..UserChange::default()
    };
    wait(users.change("bob", change)).unwrap();
    let bob = users.list().remove(1);
    assert_eq!((bob.access_keys, bob.public_keys), (text("AKID2"), text("UX")));
    assert!(wait(users.authenticate("bob", "secret")).is_ok());
}

#[test]
fn somebody_can_always_administer_the_server() {
    let rig = Rig::new();
    let users = rig.broker.users();
    let refused = |name: &str, spec: UserSpec| {
        let change = UserChange { spec, ..UserChange::default() };
        let error = wait(users.change(name, change)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}");
        assert!(error.text().contains("wiremill user add"), "{error}");
    };
    let made = |name: &str, spec: UserSpec| {
        wait(users.change(name, UserChange { spec, ..UserChange::default() })).unwrap();
    };
    let reading = || Some(vec![Permission::allow(Action::Read, "x")]);
    let less = || UserSpec { permissions: reading(), ..UserSpec::default() };
    let elsewhere = || UserSpec { tenant: Some("acme".into()), ..UserSpec::default() };
    // The first user: one who may not do everything, one of another tenant, one who cannot log in.
    refused("ann", UserSpec { permissions: reading(), ..with_password("secret") });
    refused("ann", UserSpec { tenant: Some("acme".into()), ..with_password("secret") });
    refused("ann", UserSpec::default());
    assert!(!users.any());
    made("ann", with_password("secret"));
    made("bob", UserSpec { permissions: reading(), ..with_password("secret") });
    refused("ann", less());
    refused("ann", elsewhere());
    assert_eq!(wait(users.remove("ann", LastUser::MayGo)).unwrap_err().kind(), ErrorKind::Conflict);
    made("zoe", with_password("secret"));
    made("ann", less());
    wait(users.remove("ann", LastUser::Stays)).unwrap();
    wait(users.remove("bob", LastUser::Stays)).unwrap();
    assert_eq!(wait(users.remove("ann", LastUser::Stays)).unwrap_err().kind(), ErrorKind::NotFound);
    // The last one is kept while others than this machine would be let in.
    let error = wait(users.remove("zoe", LastUser::Stays)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.text().contains("--insecure"), "{error}");
    wait(users.remove("zoe", LastUser::MayGo)).unwrap();
    assert!(!users.any());
}

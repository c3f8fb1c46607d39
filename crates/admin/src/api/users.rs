//! Users. Only for whoever runs the whole server.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{Action, Credentials, Effect, LastUser, Permission, ScramHash, UserChange, UserSpec, UserView};
use model::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    body::{Body, Path},
    caller::{Caller, invalid},
    error::Answer,
    server::Shared,
};

/// Shorter ones are refused.
const PASSWORD_LEN_MIN: usize = 8;

/// `GET /api/v1/users`
pub(crate) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    caller.need_operator()?;
    let rows: Vec<Value> = shared.broker.users().list().iter().map(row).collect();
    Ok(Json(json!({ "users": rows })).into_response())
}

fn row(user: &UserView) -> Value {
    let permissions = user.permissions.iter().map(permission_text);
    let scram = user.scram.iter().map(|(hash, _)| match hash {
        ScramHash::Sha256 => "SCRAM-SHA-256",
        ScramHash::Sha512 => "SCRAM-SHA-512",
    });
    json!({
        "name": user.name,
        "tenant": user.tenant,
        "password": user.has_password,
        "scram": scram.collect::<Vec<_>>(),
        "access_keys": user.access_keys,
        "public_keys": user.public_keys,
        "tokens": user.token_count,
        "permissions": permissions.collect::<Vec<_>>(),
    })
}

fn permission_text(permission: &Permission) -> String {
    let action = match permission.action {
        Action::Read => "read",
        Action::Write => "write",
        Action::Configure => "configure",
        Action::Admin => "admin",
        Action::Respond => "respond",
    };
    let deny = if permission.effect == Effect::Deny { "deny-" } else { "" };
    format!("{deny}{action}:{}", permission.pattern)
}

/// `ACTION:PATTERN`, or `deny-ACTION:PATTERN`
fn permission(text: &str) -> Result<Permission> {
    let wrong = || {
        let actions = "read, write, configure, admin or respond, or one of them behind `deny-`";
        invalid(format!("{text:?} is not ACTION:PATTERN with {actions}"))
    };
    let (effect, text) = match text.strip_prefix("deny-") {
        Some(text) => (Effect::Deny, text),
        None => (Effect::Allow, text),
    };
    let (action, pattern) = text.split_once(':').ok_or_else(wrong)?;
    let action = match action {
        "read" => Action::Read,
        "write" => Action::Write,
        "configure" => Action::Configure,
        "admin" => Action::Admin,
        "respond" => Action::Respond,
        _ => return Err(wrong()),
    };
    if pattern.is_empty() {
        return Err(wrong());
    }
    Ok(Permission { action, pattern: pattern.to_owned(), effect })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutBody {
    password: Option<String>,
    tenant: Option<String>,
    permissions: Option<Vec<String>>,
    #[serde(default)]
    access_keys: Vec<AccessKeyBody>,
    #[serde(default)]
    remove_access_keys: Vec<String>,
    #[serde(default)]
    public_keys: Vec<String>,
    #[serde(default)]
    remove_public_keys: Vec<String>,
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    remove_tokens: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessKeyBody {
    id: String,
    secret: String,
}

/// `PUT /api/v1/users/{name}`: makes or changes a user. What is absent stays, or is the default of a new user.
pub(crate) async fn put(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<PutBody>,
) -> Answer {
    caller.need_operator()?;
    if body.password.as_ref().is_some_and(|password| password.len() < PASSWORD_LEN_MIN) {
        return Err(invalid(format!("a password has at least {PASSWORD_LEN_MIN} bytes")).into());
    }
    let permissions: Option<Result<Vec<_>>> =
        body.permissions.map(|texts| texts.iter().map(|text| permission(text)).collect());
    let spec = UserSpec {
        credentials: body.password.map(Credentials::Password).into_iter().collect(),
        tenant: body.tenant,
        permissions: permissions.transpose()?,
    };
    let change = UserChange {
        spec,
        access_keys: body.access_keys.into_iter().map(|key| (key.id, key.secret)).collect(),
        remove_access_keys: body.remove_access_keys,
        public_keys: body.public_keys,
        remove_public_keys: body.remove_public_keys,
        tokens: body.tokens,
        remove_tokens: body.remove_tokens,
    };
    shared.broker.users().change(&name, change).await?;
    let made = shared.broker.users().list().into_iter().find(|user| user.name == name);
    Ok(Json(made.as_ref().map_or(Value::Null, row)).into_response())
}

/// `DELETE /api/v1/users/{name}`
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    caller.need_operator()?;
    let last = if shared.options.beyond_loopback { LastUser::Stays } else { LastUser::MayGo };
    shared.broker.users().remove(&name, last).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_an_action_and_a_pattern() {
        for text in ["read:orders*", "write:*", "configure:a:b", "admin:*", "deny-read:a", "respond:*"] {
            assert_eq!(permission_text(&permission(text).unwrap()), text);
        }
        for wrong in ["", "read", "read:", "fly:*", "deny-", "deny-fly:*"] {
            assert!(permission(wrong).is_err(), "{wrong}");
        }
    }
}

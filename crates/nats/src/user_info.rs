//! `$SYS.REQ.USER.INFO`: a client asks who it is and what it may do.

use broker::{Action, Effect, Principal};
use serde_json::{Value, json};

use crate::{
    rights::Rights,
    server::{ConnectionInfo, Server},
    session::account_of,
};

/// Where it is asked.
pub(crate) const USER_INFO: &[u8] = b"$SYS.REQ.USER.INFO";

/// The answer, as the original words it.
pub(crate) fn user_info(server: &Server, info: &ConnectionInfo, rights: &Rights) -> String {
    let principal = &rights.principal;
    let permissions = |action| {
        let patterns = |effect| patterns(principal, action, effect);
        match (patterns(Effect::Allow), patterns(Effect::Deny)) {
            (allow, deny) if deny.is_empty() => json!({ "allow": allow }),
            (allow, deny) => json!({ "allow": allow, "deny": deny }),
        }
    };
    let mut data = json!({
        "user": principal.name.as_deref().unwrap_or_default(),
        "account": account_of(&principal.tenant),
        "permissions": { "publish": permissions(Action::Write), "subscribe": permissions(Action::Read) },
        "expires": 0,
    });
    if let (true, Some(permissions)) = (rights.responds, data.get_mut("permissions")) {
        permissions["responses"] = json!({ "max": 1, "ttl": 120_000_000_000_u64 });
    }
    let host = info.local.ip().to_string();
    json!({
        "server": { "name": server.id, "host": host, "id": server.id, "ver": crate::VERSION, "jetstream": false },
        "data": data,
    })
    .to_string()
}

fn patterns(principal: &Principal, action: Action, effect: Effect) -> Vec<Value> {
    let of = |one: &&broker::Permission| {
        one.effect == effect && (one.action == action || one.action == Action::Admin)
    };
    let text =
        |one: &broker::Permission| if one.pattern == "*" { ">".into() } else { one.pattern.as_str().into() };
    principal.permissions.iter().filter(of).map(text).collect()
}

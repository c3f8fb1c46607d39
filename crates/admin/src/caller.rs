//! Who asks, and what of it is allowed.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use broker::{Action, Broker, Principal};
use model::{Error, ErrorKind, Namespace, Result};
use serde::Deserialize;

use crate::{error::Failed, server::Shared};

/// Asks for credentials (HTTP basic, RFC 7617) once any user exists, and notes who asks for the handlers.
pub(crate) async fn authenticate(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    match principal(&shared.broker, request.headers()).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(e) => {
            let mut response = Failed(e).into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Basic realm=\"wiremill\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

async fn principal(broker: &Broker, headers: &HeaderMap) -> Result<Principal> {
    if !broker.users().any() {
        return Ok(Principal::anonymous());
    }
    let wrong =
        || Error::new(ErrorKind::Unauthenticated, "a user name and its password are needed (HTTP basic)");
    let (name, password) = basic(headers).ok_or_else(wrong)?;
    broker.users().authenticate(&name, &password).await
}

/// Name and password of a basic Authorization header.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Who asks, and in which namespace: `?namespace=TENANT/SPACE`, else the caller's own.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    principal: Principal,
    /// Where the request looks.
    pub(crate) namespace: Namespace,
}

#[derive(Deserialize)]
struct NamespaceQuery {
    namespace: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failed> {
        let principal = parts.extensions.get::<Principal>().cloned();
        let principal = principal.ok_or_else(|| Error::internal("the request was not authenticated"))?;
        let Query(query) = Query::<NamespaceQuery>::try_from_uri(&parts.uri)
            .map_err(|_| invalid("the query does not read"))?;
        let namespace = match query.namespace {
            None => Namespace::new(&principal.tenant, "default"),
            Some(text) => namespace(&text)?,
        };
        let caller = Caller { principal, namespace };
        if caller.namespace.tenant != caller.principal.tenant {
            caller.need_operator()?;
        }
        Ok(caller)
    }
}

impl Caller {
    /// [`ErrorKind::Denied`] unless the caller may do `action` to `name`.
    pub(crate) fn need(&self, action: Action, name: &str) -> Result<()> {
        if self.principal.allows(action, name) {
            return Ok(());
        }
        Err(Error::denied(format!("this user may not do that to {name:?}")))
    }

    /// Whether the caller may know that `name` is there: whoever may do anything with it.
    pub(crate) fn sees(&self, name: &str) -> bool {
        [Action::Read, Action::Write, Action::Configure]
            .iter()
            .any(|action| self.principal.allows(*action, name))
    }

    /// [`ErrorKind::Denied`] unless the caller runs the whole server: may do everything, in tenant `public`.
    pub(crate) fn need_operator(&self) -> Result<()> {
        if self.principal.runs_the_server() {
            return Ok(());
        }
        Err(Error::denied("this takes a user of tenant \"public\" who may do everything (admin on *)"))
    }
}

/// `TENANT/SPACE`.
pub(crate) fn namespace(text: &str) -> Result<Namespace> {
    let named = |part: &str| !part.is_empty() && part.len() <= model::limits::NAME_LEN_MAX;
    match text.split_once('/') {
        Some((tenant, space)) if named(tenant) && named(space) => Ok(Namespace::new(tenant, space)),
        _ => Err(invalid(format!("{text:?} is not TENANT/SPACE"))),
    }
}

/// [`ErrorKind::Invalid`].
pub(crate) fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(tenant: &str, action: Action, pattern: &str) -> Caller {
        let permission = broker::Permission::allow(action, pattern);
        let principal =
            Principal { name: Some("u".into()), tenant: tenant.into(), permissions: [permission].into() };
        Caller { principal, namespace: Namespace::new(tenant, "default") }
    }

    #[test]
    fn credentials_are_read_from_a_basic_header_only() {
        let check = |value: &str, expected: Option<(&str, &str)>| {
            let headers: HeaderMap = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            let found = basic(&headers);
            assert_eq!(found.as_ref().map(|(n, p)| (n.as_str(), p.as_str())), expected, "{value}");
        };
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("basic YTpi", Some(("a", "b")));
        check("Bearer YTpi", None);
        check("Basic YTpi!", None);
        check("Basic", None);
    }

    #[test]
    fn an_operator_may_do_everything_in_the_public_tenant() {
        assert!(caller("public", Action::Admin, "*").need_operator().is_ok());
        assert!(caller("acme", Action::Admin, "*").need_operator().is_err());
        assert!(caller("public", Action::Admin, "orders*").need_operator().is_err());
        assert!(caller("public", Action::Configure, "*").need_operator().is_err());
    }

    #[test]
    fn a_stream_is_seen_by_whoever_may_do_anything_with_it() {
        assert!(caller("acme", Action::Write, "orders*").sees("orders.v1"));
        assert!(!caller("acme", Action::Write, "orders*").sees("billing"));
    }

    #[test]
    fn a_namespace_has_a_tenant_and_a_space() {
        assert_eq!(namespace("a/b").unwrap(), Namespace::new("a", "b"));
        assert_eq!(namespace("a/b/c").unwrap(), Namespace::new("a", "b/c"));
        for wrong in ["", "a", "a/", "/b"] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
    }
}

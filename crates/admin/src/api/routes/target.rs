//! How the target of a route is written: a stream with its kind, or an address with its dialect.

use broker::{
    Broker,
    routing::{Entrance, Target, Template},
};
use model::{Namespace, Result};

use crate::{
    api::places,
    caller::{invalid, namespace},
};

/// The target that `text` names, seen from `home`: an address where the dialect's are open to routes, else a stream. In a
/// dialect whose addresses lie in scopes a name without a slash is a stream.
pub(super) fn parse(broker: &Broker, text: &str, home: &Namespace) -> Result<Target> {
    let stream = || places::stream(text, home).map(Target::Stream);
    let Some((dialect, name)) = text.split_once(':') else { return stream() };
    let Some(space) = broker.addresses(dialect) else { return stream() };
    let (namespace, name) = match name.strip_prefix("//") {
        None => (home.clone(), name),
        Some(full) => {
            let wrong = || invalid(format!("{text:?} is not {dialect}://TENANT/SPACE/ADDRESS"));
            let (tenant, rest) = full.split_once('/').ok_or_else(wrong)?;
            let (space, name) = rest.split_once('/').ok_or_else(wrong)?;
            (namespace(&format!("{tenant}/{space}"))?, name)
        }
    };
    let (scope, name) = match space.is_scoped() {
        false => (None, name),
        true => match name.split_once('/') {
            Some((scope, name)) => (Some(scope.to_owned()), name),
            None => return stream(),
        },
    };
    let name = Template::for_address(name)?;
    Ok(Target::Address(Entrance { namespace, dialect: dialect.to_owned(), scope, name }))
}

/// How a target is written, seen from `home`. [`parse`] reads it.
pub(super) fn shown(target: &Target, home: &Namespace) -> String {
    match target {
        Target::Stream(key) => places::shown(key, home),
        Target::Address(Entrance { namespace, dialect, scope, name }) => {
            let scope = scope.as_ref().map(|scope| format!("{scope}/")).unwrap_or_default();
            let place = if namespace == home { String::new() } else { format!("//{namespace}/") };
            format!("{dialect}:{place}{scope}{name}")
        }
    }
}

/// What permissions on a target are about.
pub(super) fn resource(target: &Target) -> &str {
    match target {
        Target::Stream(key) => &key.name,
        Target::Address(entrance) => entrance.scope.as_deref().unwrap_or_else(|| entrance.name.text()),
    }
}

/// Whether the target is there now.
pub(super) fn exists(broker: &Broker, target: &Target) -> bool {
    match target {
        Target::Stream(key) => broker.stream(key).is_some(),
        Target::Address(Entrance { namespace, dialect, scope, name }) => broker
            .addresses(dialect)
            .is_some_and(|space| space.check(namespace, scope.as_deref(), name.text()).is_ok()),
    }
}

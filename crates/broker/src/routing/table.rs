//! Routes by address, and how one is stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use model::{Error, Namespace, Result};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use route::{Generations, Place, Route, Routes, Rule, Template};

use super::{Entrance, Target};
use crate::{
    catalog::command::{put_key, put_namespace, read_key, read_namespace},
    codec::{Reader, put_bytes, put_option},
};

/// Version 2 knew streams as targets alone, and no scopes.
const STORED_VERSION: u8 = 3;

/// A route and where it is in force.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub namespace: Namespace,
    pub route: Route<Target>,
}

/// The routes of this process.
#[derive(Default)]
pub(crate) struct RouteBook {
    table: RwLock<RouteTable>,
    /// Rises with every change; 0 while there never was a route. Read without the lock.
    generation: AtomicU64,
}

impl RouteBook {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, RouteTable> {
        self.table.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, RouteTable> {
        self.table.write()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called before the table is unlocked, so that nobody keeps what is old under the new number.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The routes of one dialect, by scope; those without one have none.
type ByScope = HashMap<String, Routes<u64>>;

/// Routes by address, ready to be asked.
#[derive(Default)]
pub(super) struct RouteTable {
    pub by_id: BTreeMap<u64, Placed>,
    by_place: HashMap<Namespace, HashMap<String, ByScope>>,
}

impl RouteTable {
    pub(super) fn insert(&mut self, id: u64, placed: Placed) {
        let from = &placed.route.from;
        let dialects = self.by_place.entry(placed.namespace.clone()).or_default();
        let scopes = dialects.entry(from.dialect.clone()).or_default();
        scopes
            .entry(from.scope.clone().unwrap_or_default())
            .or_insert_with(|| Routes::new(Generations::single()))
            .add(&Rule::Tokens(placed.route.pattern.clone()), id);
        self.by_id.insert(id, placed);
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(Placed { namespace, route }) = self.by_id.remove(&id) else { return };
        let scope = route.from.scope.unwrap_or_default();
        let Some(scopes) =
            self.by_place.get_mut(&namespace).and_then(|dialects| dialects.get_mut(&route.from.dialect))
        else {
            return;
        };
        if let Some(table) = scopes.get_mut(&scope) {
            table.remove(&Rule::Tokens(route.pattern), &id);
            if table.is_empty() {
                scopes.remove(&scope);
            }
        }
    }

    /// The routes that apply to an address, in the order in which they were added.
    pub(super) fn matching(
        &self,
        namespace: &Namespace,
        dialect: &str,
        scope: Option<&str>,
        address: &[u8],
    ) -> Vec<(u64, &Placed)> {
        let mut ids = BTreeSet::new();
        let scopes = self.by_place.get(namespace).and_then(|dialects| dialects.get(dialect));
        if let Some(table) = scopes.and_then(|scopes| scopes.get(scope.unwrap_or_default())) {
            table.targets(address, &[], |id| {
                ids.insert(*id);
            });
        }
        ids.into_iter().filter_map(|id| Some((id, self.by_id.get(&id)?))).collect()
    }

    /// Whether any route leads on from a dialect.
    pub(super) fn leads_from(&self, namespace: &Namespace, dialect: &str) -> bool {
        let scopes = self.by_place.get(namespace).and_then(|dialects| dialects.get(dialect));
        scopes.is_some_and(|scopes| !scopes.is_empty())
    }
}

pub(super) fn encode(placed: &Placed) -> Bytes {
    let Placed { namespace, route } = placed;
    let mut out = vec![STORED_VERSION];
    put_namespace(&mut out, namespace);
    put_place(&mut out, &route.from);
    match &route.target {
        Target::Stream(key) => {
            out.push(0);
            put_key(&mut out, key);
        }
        Target::Address(Entrance { namespace, dialect, scope, name }) => {
            out.push(1);
            put_namespace(&mut out, namespace);
            put_bytes(&mut out, dialect.as_bytes());
            put_option(&mut out, scope.as_ref(), |out, scope| put_bytes(out, scope.as_bytes()));
            put_bytes(&mut out, name.text().as_bytes());
        }
    }
    put_option(&mut out, route.key.as_ref(), |out, key| put_bytes(out, key.text().as_bytes()));
    out.into()
}

fn put_place(out: &mut Vec<u8>, place: &Place) {
    put_bytes(out, place.dialect.as_bytes());
    put_option(out, place.scope.as_ref(), |out, scope| put_bytes(out, scope.as_bytes()));
    put_bytes(out, place.name.as_bytes());
}

fn read_place(reader: &mut Reader<'_>) -> Result<Place> {
    let dialect = reader.text()?.to_owned();
    let scope = reader.option(|reader| reader.text().map(str::to_owned))?;
    Ok(Place { dialect, scope, name: reader.text()?.to_owned() })
}

fn read_target(reader: &mut Reader<'_>) -> Result<Target> {
    Ok(match reader.u8()? {
        0 => Target::Stream(read_key(reader)?),
        1 => Target::Address(Entrance {
            namespace: read_namespace(reader)?,
            dialect: reader.text()?.to_owned(),
            scope: reader.option(|reader| reader.text().map(str::to_owned))?,
            name: Template::for_address(reader.text()?)?,
        }),
        _ => return Err(Error::corrupt("a route leads to something unknown")),
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Placed> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if !(2..=STORED_VERSION).contains(&version) {
        return Err(Error::corrupt("a route has an unknown version"));
    }
    let namespace = read_namespace(&mut reader)?;
    let (from, target) = match version {
        2 => (Place::parse(reader.text()?)?, Target::Stream(read_key(&mut reader)?)),
        _ => (read_place(&mut reader)?, read_target(&mut reader)?),
    };
    let key = reader.option(|reader| Template::parse(reader.text()?))?;
    reader.finish()?;
    Ok(Placed { namespace, route: Route::new(from, target, key)? })
}

#[cfg(test)]
mod tests {
    use model::StreamKey;

    use super::*;

    fn placed(from: Place, target: Target) -> Placed {
        let key = Some(Template::parse("{token.1}").unwrap());
        Placed { namespace: Namespace::new("acme", "blue"), route: Route::new(from, target, key).unwrap() }
    }

    #[test]
    fn routes_read_back_as_they_were_stored() {
        let stream = Target::Stream(StreamKey::queue(&Namespace::default(), "jobs"));
        let address = Target::Address(Entrance {
            namespace: Namespace::default(),
            dialect: "two".into(),
            scope: Some("events".into()),
            name: Template::for_address("orders.{key}").unwrap(),
        });
        for one in [
            placed(Place::parse("one:orders.>").unwrap(), stream),
            placed(Place::parse("two:/orders.#").unwrap().scoped().unwrap(), address),
        ] {
            assert!(decode(&encode(&one)).unwrap() == one);
        }
    }

    #[test]
    fn routes_of_version_2_are_read() {
        let key = StreamKey::queue(&Namespace::default(), "jobs");
        let mut old = vec![2];
        put_namespace(&mut old, &Namespace::new("acme", "blue"));
        put_bytes(&mut old, b"one:orders.>");
        put_key(&mut old, &key);
        put_option(&mut old, Some("{token.1}"), |out, key| put_bytes(out, key.as_bytes()));
        let expected = placed(Place::parse("one:orders.>").unwrap(), Target::Stream(key));
        assert!(decode(&old).unwrap() == expected);
        assert!(decode(&[4]).is_err());
    }
}

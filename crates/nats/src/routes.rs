//! Subjects as addresses of routes: records of other dialects enter at them.
//!
//! Whoever subscribes is served on the spot; a stream that takes the subject stores the record in the unit of its publish,
//! under the subject as its route key and in the bytes of its own dialect. How publishes to subjects follow routes is in
//! `jetstream::intake::onward`.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use broker::{
    NewBatch,
    routing::{Address, Addresses, Entered, Entering, Laying, Reached},
};
use bytes::Bytes;
use model::{Attributes, Error, Namespace, Record, Result};
use parking_lot::Mutex;

use crate::{
    core::{
        fanout::{Fanout, Message},
        subject,
    },
    jetstream::{
        account::Bound,
        stored::{FORMAT, Stored, header_block, split},
    },
    server::Server,
};

/// How the dialect is called in routes.
pub const DIALECT: &str = "nats";

/// What begins so is the server's own.
const OWN_PREFIXES: [&[u8]; 2] = [b"$JS.", b"$SYS."];

/// Subscriptions that are named one by one when a subject is explained.
const EXPLAINED_MAX: usize = 100;

/// Whether a subject is the server's own: no route leads from or to it.
pub(crate) fn is_own(subject: &[u8]) -> bool {
    subject.first() == Some(&b'$') && OWN_PREFIXES.iter().any(|prefix| subject.starts_with(prefix))
}

/// The subjects of every account.
pub(crate) struct Subjects {
    server: Weak<Server>,
    /// By tenant.
    out: Mutex<HashMap<Box<str>, Fanout>>,
}

impl Subjects {
    pub(crate) fn new(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Subjects { server: Arc::downgrade(server), out: Mutex::default() })
    }

    fn server(&self) -> Result<Arc<Server>> {
        self.server.upgrade().ok_or_else(|| Error::unavailable("the dialect stops"))
    }

    /// Runs `act` with the way out to who listens in an account.
    fn with_out<T>(&self, server: &Server, tenant: &str, act: impl FnOnce(&mut Fanout) -> T) -> T {
        let mut out = self.out.lock();
        let make = || Fanout::new(server.hub(tenant), server.seed());
        match out.get_mut(tenant) {
            Some(fanout) => act(fanout),
            None => act(out.entry(tenant.into()).or_insert_with(make)),
        }
    }
}

/// The stream that takes a subject, and the subject under which it stores it.
fn taker(server: &Server, namespace: &Namespace, subject: &[u8]) -> Option<(Arc<Bound>, Bytes)> {
    let account = server.account(&namespace.tenant);
    account.generations();
    let bound = account.taker(subject)?;
    let mapped = bound.transform.as_ref().and_then(|mapping| mapping.apply(subject));
    let route_key = mapped.map_or_else(|| Bytes::copy_from_slice(subject), Bytes::from);
    Some((bound, route_key))
}

fn is_account(namespace: &Namespace) -> bool {
    &*namespace.space == "default"
}

impl Addresses for Subjects {
    fn check(&self, namespace: &Namespace, _: Option<&str>, template: &str) -> Result<()> {
        if !is_account(namespace) {
            return Err(Error::invalid("subjects are in the space \"default\" of a tenant"));
        }
        if is_own(template.as_bytes()) {
            return Err(Error::invalid("no route leads to the server's own subjects"));
        }
        if !subject::is_literal(template.as_bytes()) {
            return Err(Error::invalid(format!("{template:?} is no subject that can be published to")));
        }
        Ok(())
    }

    fn check_source(&self, pattern: &str) -> Result<()> {
        if is_own(pattern.as_bytes()) {
            return Err(Error::invalid("no route begins at the server's own subjects"));
        }
        if pattern.split('.').any(str::is_empty) {
            return Err(Error::invalid(format!("{pattern:?} is no pattern of subjects")));
        }
        Ok(())
    }

    fn enter(&self, entering: &Entering<'_>) -> Result<Option<Entered>> {
        let Address { namespace, name: subject, .. } = entering.address;
        let has_blanks = subject.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0);
        if !is_account(namespace) || !subject::is_literal(subject) || has_blanks || is_own(subject) {
            return Ok(None);
        }
        let server = self.server()?;
        let mut entered = Entered::default();
        if let Some((bound, route_key)) = taker(&server, namespace, subject) {
            entered.streams.push((bound.stream.clone(), route_key));
        }
        entered.is_live = self.with_out(&server, &namespace.tenant, |out| out.is_heard(subject));
        Ok(Some(entered))
    }

    fn lay(&self, laying: &Laying<'_>) -> Result<Option<NewBatch>> {
        if laying.batch.format != FORMAT {
            return Ok(None);
        }
        let (mut body, mut attributes) = (Vec::new(), Vec::with_capacity(laying.rows.len()));
        let mut rows = laying.rows.iter().peekable();
        split(laying.batch, |index, _, stored| {
            if let Some((_, _, subject)) = rows.next_if(|(wanted, ..)| *wanted == index) {
                let stored = Stored { subject, ..stored };
                stored.put(u32::try_from(attributes.len()).unwrap_or(u32::MAX), &mut body);
                attributes.push(stored.attributes());
            }
            Ok(())
        })?;
        Ok(Some(NewBatch {
            count: u32::try_from(attributes.len()).unwrap_or(u32::MAX),
            format: FORMAT,
            attributes: Attributes::Rows(attributes.into()),
            body: body.into(),
            ..NewBatch::default()
        }))
    }

    fn serve(&self, namespace: &Namespace, records: &[(Bytes, Record)]) {
        let Some(server) = self.server.upgrade() else { return };
        self.with_out(&server, &namespace.tenant, |out| {
            for (subject, record) in records {
                let block = header_block(record);
                let body = record.body.as_deref().unwrap_or_default();
                let payload = [&block[..], body].concat();
                let headers_len = Some(block.len()).filter(|len| *len > 0);
                out.publish(&Message { subject, reply: None, headers_len, payload: &payload }, None);
            }
            // Whose publish it is cannot be held up here: who reads too slowly is cut off at its bound.
            out.flush(server.options.pending_len_max);
        });
    }

    fn explain(&self, address: &Address) -> Result<Vec<Reached>> {
        let Address { namespace, name: subject, .. } = address;
        if !is_account(namespace) || !subject::is_literal(subject) {
            return Err(Error::invalid("it is no subject that can be published to"));
        }
        let server = self.server()?;
        let mut all = Vec::new();
        if let Some((bound, route_key)) = taker(&server, namespace, subject) {
            let subjects = bound.config.subjects.join(", ");
            let mut why = format!("the stream takes {subjects}");
            if route_key != *subject {
                why += &format!("; stored under {}", String::from_utf8_lossy(&route_key));
            }
            all.push(Reached { stream: Some(bound.stream.key().clone()), who: None, why });
        }
        all.extend(subscribers(&server, &namespace.tenant, subject));
        Ok(all)
    }
}

/// Who listens to a subject: alike subscriptions are counted together.
fn subscribers(server: &Server, tenant: &str, subject: &[u8]) -> Vec<Reached> {
    let mut counts: Vec<(String, Option<String>, usize)> = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    server.hub(tenant).matching(subject, |subscription| {
        if subscription.is_denied(subject) || subscription.is_over() {
            return;
        }
        let (to, queue) = (text(&subscription.subject()), subscription.queue.as_deref().map(text));
        let at = counts.iter().position(|(known, group, _)| *known == to && *group == queue);
        match at {
            Some(at) => counts.get_mut(at).into_iter().for_each(|(.., count)| *count += 1),
            None if counts.len() < EXPLAINED_MAX => counts.push((to, queue, 1)),
            None => {}
        }
    });
    let row = |(to, queue, count): (String, Option<String>, usize)| match queue {
        Some(queue) => Reached {
            stream: None,
            who: Some(format!("one of queue group {queue}, of {count} here")),
            why: format!("subscribed to {to}"),
        },
        None => Reached {
            stream: None,
            who: Some(format!("{count} live subscriber{}", if count == 1 { "" } else { "s" })),
            why: format!("subscribed to {to}"),
        },
    };
    counts.into_iter().map(row).collect()
}

//! basic.publish: checked, routed, taken in.

use std::sync::Arc;

use broker::Action;

use super::{KEPT_ROUTES, Routes, Session, reply::REPLY_TO};
use crate::{
    channel::{
        Publishing,
        assembly::Whole,
        transaction::{TRANSACTION_LEN, TRANSACTION_SETTLED, Transaction},
    },
    codec::{Key, Method, Properties, TableWriter, Value, put_body, put_content, put_method},
    error::{Code, Exception},
    message::with_headers,
    vhost::{arguments::check_expiry, routing::Resolved},
};

/// Headers with further routing keys: those of the first stay, those of the second are taken out.
const CC: &str = "CC";
const BCC: &str = "BCC";

/// Queues that a remembered route leads to which take as much memory as the route itself.
const QUEUES_OF_A_ROUTE: usize = 16;

impl Routes {
    fn find(&mut self, exchange: &str, key: &[u8]) -> Option<&Arc<Resolved>> {
        let is_last = |(known, last, _): &(String, Vec<u8>, _)| {
            is_same(known.as_bytes(), exchange.as_bytes()) && is_same(last, key)
        };
        if !self.last.as_ref().is_some_and(is_last) {
            let resolved = self.by_key.get(exchange)?.get(key)?.clone();
            let (mut known, mut last) = match self.last.take() {
                Some((known, last, _)) => (known, last),
                None => Default::default(),
            };
            known.clear();
            known.push_str(exchange);
            last.clear();
            last.extend_from_slice(key);
            self.last = Some((known, last, resolved));
        }
        self.last.as_ref().map(|(_, _, resolved)| resolved)
    }

    fn keep(&mut self, exchange: &str, key: &[u8], resolved: &Arc<Resolved>) {
        if self.count >= KEPT_ROUTES {
            self.by_key.clear();
            self.count = 0;
        }
        self.count += weight(resolved.queues.len(), resolved.onward.len());
        self.by_key.entry(exchange.into()).or_default().insert(key.into(), resolved.clone());
    }
}

/// How much a route takes of the room for remembered ones, which leads to so many queues and so many routes that people added.
fn weight(queue_count: usize, onward_count: usize) -> usize {
    1 + onward_count + queue_count / QUEUES_OF_A_ROUTE
}

/// Whether both are the same. The default exchange has no name, and comparing no bytes at all, at an address where there are
/// none, is dear where the machine compares by masks: it took a tenth of the time of a publish.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

impl Session {
    pub(super) fn publish(&mut self, number: u16, message: &Whole<'_>) -> Result<(), Exception> {
        let Some(generation) = self.vhost.as_ref().map(|vhost| vhost.generation()) else {
            return self.vhost().map(drop);
        };
        if self.routes.generation != generation {
            self.routes = Routes { generation, ..Routes::default() };
        }
        let properties = &message.properties;
        let more =
            self.check_properties(number, properties).map_err(|wrong| self.foremost(message, wrong))?;
        let hides = properties.headers.is_some_and(|headers| headers.get(BCC).is_some());
        let without_bcc = hides.then(|| without(properties, BCC));
        let shown = without_bcc.as_deref().and_then(|raw| Properties::read(raw).ok());
        let addressed = self.with_address(number, shown.as_ref().unwrap_or(properties))?;
        let raw_properties =
            addressed.as_deref().or(without_bcc.as_deref()).unwrap_or(message.raw_properties);
        let (to, is_replied) = match self.reply(message, raw_properties)? {
            Some(is_replied) => (Arc::new(Resolved::nowhere()), is_replied),
            None => (self.resolve(message, &more)?, false),
        };
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let confirmed = match &mut channel.publishing {
            Publishing::Plain | Publishing::Transaction(_) => None,
            Publishing::Confirmed(last) => {
                *last += 1;
                Some((number, *last))
            }
        };
        if to.is_nowhere() && message.mandatory && !is_replied {
            self.give_back_unrouted(number, message, raw_properties);
        }
        let now_ms = match properties.expiration {
            Some(_) => self.server.broker.env().clock.wall_ms(),
            None if to.has_schedule || to.is_impatient => self.server.broker.env().clock.wall_ms(),
            None => 0,
        };
        let to = match without_bcc {
            Some(_) if to.has_schedule => self.hold_with_keys(number, message, &to, now_ms)?,
            _ => to,
        };
        let channel = self.channels.get_mut(&number).map(|channel| &mut channel.publishing);
        if let Some(Publishing::Transaction(transaction)) = channel {
            transaction.intake.add(message, raw_properties, &to, None, now_ms);
            return check_len(transaction);
        }
        self.intake.add(message, raw_properties, &to, confirmed, now_ms);
        Ok(())
    }

    /// Takes a message in where it waits for its time, with the hidden keys that are taken out of it then. The other queues
    /// that get it.
    fn hold_with_keys(
        &mut self,
        number: u16,
        message: &Whole<'_>,
        to: &Resolved,
        now_ms: i64,
    ) -> Result<Arc<Resolved>, Exception> {
        let addressed = self.with_address(number, &message.properties)?;
        let raw_properties = addressed.as_deref().unwrap_or(message.raw_properties);
        let (later, now) = to.split();
        let channel = self.channels.get_mut(&number).map(|channel| &mut channel.publishing);
        let intake = match channel {
            Some(Publishing::Transaction(transaction)) => &mut transaction.intake,
            _ => &mut self.intake,
        };
        intake.add(message, raw_properties, &Arc::new(later), None, now_ms);
        Ok(Arc::new(now))
    }

    fn resolve(&mut self, message: &Whole<'_>, more: &[Vec<u8>]) -> Result<Arc<Resolved>, Exception> {
        if more.is_empty()
            && let Some(known) = self.routes.find(message.exchange, message.routing_key)
        {
            return Ok(known.clone());
        }
        let vhost = self.vhost()?;
        self.check_may(Action::Write, "exchange", message.exchange)?;
        vhost.check_published(message.exchange)?;
        let mut keys = vec![message.routing_key];
        keys.extend(more.iter().map(Vec::as_slice));
        let headers = message.properties.headers.unwrap_or_default();
        let resolved = Arc::new(vhost.resolve(message.exchange, &keys, headers)?);
        if resolved.is_by_key {
            self.routes.keep(message.exchange, message.routing_key, &resolved);
        }
        Ok(resolved)
    }

    /// Whether a message may be as it is: in the order in which the original looks at it. Its further routing keys.
    fn check_properties(&self, number: u16, properties: &Properties<'_>) -> Result<Vec<Vec<u8>>, Exception> {
        let mut more = Vec::new();
        if properties.reply_to == Some(REPLY_TO.as_bytes()) {
            self.check_asks(number)?;
        }
        if let Some(expiration) = properties.expiration {
            check_expiration(expiration)?;
        }
        if properties.headers.is_some_and(|headers| !headers.is_empty()) {
            more.extend(further_keys(properties, CC)?);
            more.extend(further_keys(properties, BCC)?);
        }
        if let Some(user) = properties.user_id
            && user != self.user.as_bytes()
        {
            return Err(Exception::precondition(format!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(user),
                self.user
            )));
        }
        Ok(more)
    }

    /// What the client is told of a message that is wrong: that its exchange cannot be published to, if that is so as well.
    fn foremost(&self, message: &Whole<'_>, wrong: Exception) -> Exception {
        let check = || {
            self.check_may(Action::Write, "exchange", message.exchange)?;
            self.vhost()?.check_published(message.exchange)
        };
        check().err().unwrap_or(wrong)
    }

    /// A message that goes nowhere and must not goes back to its publisher: with the commit, where it waits for that.
    fn give_back_unrouted(&mut self, number: u16, message: &Whole<'_>, raw_properties: &[u8]) {
        self.flush();
        let method = Method::BasicReturn {
            code: 312,
            text: "NO_ROUTE",
            exchange: message.exchange,
            routing_key: Key(message.routing_key),
        };
        let mut frames = Vec::new();
        put_method(&mut frames, number, method);
        put_content(&mut frames, number, raw_properties, message.body.len());
        let bytes = bytes::Bytes::copy_from_slice(message.body);
        let mut own = wire::Gathered::default();
        let transaction = match self.channels.get_mut(&number).map(|channel| &mut channel.publishing) {
            Some(Publishing::Transaction(transaction)) => Some(transaction),
            _ => None,
        };
        let is_now = transaction.is_none();
        let returned = transaction.map_or(&mut own, |transaction| &mut transaction.returned);
        returned.slice(&frames);
        put_body(returned, number, &bytes, self.client.frame_max());
        if is_now {
            self.client.push(&mut own);
        }
    }
}

/// A transaction is kept in memory, and cannot be of any length.
pub(super) fn check_len(transaction: &Transaction) -> Result<(), Exception> {
    if transaction.is_too_long() {
        return Err(Exception::new(
            Code::ResourceError,
            format!(
                "a transaction publishes at most {TRANSACTION_LEN} bytes and settles {TRANSACTION_SETTLED} deliveries"
            ),
        ));
    }
    Ok(())
}

fn check_expiration(expiration: &[u8]) -> Result<(), Exception> {
    let text = String::from_utf8_lossy(expiration);
    let signs = usize::from(text.starts_with(['-', '+']));
    let digits = text.bytes().skip(signs).take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(signs + digits);
    let why = match number.parse::<i64>() {
        _ if digits == 0 => "no_integer".to_owned(),
        _ if !rest.is_empty() => format!("{{leftover_string,\"{rest}\"}}"),
        Ok(number) => match check_expiry(number) {
            Ok(_) => return Ok(()),
            Err(why) => why,
        },
        Err(_) => format!("{{value_too_large,{number}}}"),
    };
    Err(Exception::precondition(format!("invalid expiration '{text}': {why}")))
}

/// The routing keys of a header that has some. What is no text in it is passed over.
fn further_keys(properties: &Properties<'_>, name: &str) -> Result<Vec<Vec<u8>>, Exception> {
    match properties.headers.unwrap_or_default().get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(keys)) => {
            let key = |value: Value<'_>| match value {
                Value::Text(key) => Some(key.to_vec()),
                _ => None,
            };
            Ok(keys.values().filter_map(key).collect())
        }
        Some(other) => Err(Exception::precondition(format!(
            "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
            other.type_name()
        ))),
    }
}

fn without(properties: &Properties<'_>, name: &str) -> Vec<u8> {
    let mut headers = TableWriter::default();
    for (known, field) in properties.headers.unwrap_or_default().raw_fields() {
        if known != name.as_bytes() {
            headers.raw(field);
        }
    }
    with_headers(properties, &headers.finish(), true)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn routes_to_many_queues_are_remembered_in_no_more_memory_than_others() {
        let resolved = Arc::new(Resolved::nowhere());
        let mut routes = Routes::default();
        for number in 0..3 * KEPT_ROUTES {
            routes.keep("e", &number.to_be_bytes(), &resolved);
            assert!(routes.by_key.values().map(HashMap::len).sum::<usize>() <= KEPT_ROUTES);
        }
        for (queue_count, kept) in [(0, KEPT_ROUTES), (1, KEPT_ROUTES), (100, 600), (10_000, 7)] {
            assert!(KEPT_ROUTES / weight(queue_count, 0) <= kept, "{queue_count}");
        }
    }

    #[test]
    fn an_expiration_is_a_time_of_at_most_ten_years() {
        for fine in ["0", "1", "+5", "315360000000"] {
            assert_eq!(check_expiration(fine.as_bytes()), Ok(()), "{fine}");
        }
        for (text, why) in [
            ("", "no_integer"),
            ("abc", "no_integer"),
            ("-", "no_integer"),
            ("-1", "{value_negative,-1}"),
            ("10 s", "{leftover_string,\" s\"}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("315360000001", "{value_too_large,315360000001}"),
            ("99999999999999999999", "{value_too_large,99999999999999999999}"),
        ] {
            let refused = check_expiration(text.as_bytes()).unwrap_err();
            assert_eq!(refused.explanation, format!("invalid expiration '{text}': {why}"));
        }
    }
}

//! The arguments that queues are declared with: read, checked, compared.

use crate::{
    codec::{Table, Value, table_of},
    error::{Exception, Result},
};

/// The type of a queue that is not said.
pub(crate) const CLASSIC: &str = "classic";
pub(crate) const QUORUM: &str = "quorum";

/// Deliveries of a message of a quorum queue that may fail, unless it says otherwise.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// Levels of a quorum queue, which has them without being asked, and that of a message without a priority
/// (`rabbit_fifo.erl`: MAX_PRIORITY, DEFAULT_PRIORITY).
const QUORUM_PRIORITY_MAX: u8 = 31;
const QUORUM_PRIORITY: u8 = 4;

/// The fields of arguments that were stored.
pub(crate) fn table(fields: &[u8]) -> Table<'_> {
    table_of(fields)
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OverflowPolicy {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// What a queue's arguments ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub is_quorum: bool,
    pub message_ttl_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: OverflowPolicy,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_key: Option<Vec<u8>>,
    /// Dead letters are kept until somebody takes them, if the overflow policy is to refuse.
    pub dead_letters_at_least_once: bool,
    pub max_priority: Option<u8>,
    pub single_active_consumer: bool,
    pub delivery_limit: Option<u32>,
    pub retry: Option<Retry>,
    /// How long a consumer may have a message, milliseconds, unless it says so itself. Of quorum queues.
    pub consumer_timeout_ms: Option<u64>,
}

/// When a message that a consumer of a quorum queue gives back is offered again, where that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Whether what is rejected waits, and whether what is only given back does.
    of_failed: bool,
    of_returned: bool,
    min_ms: u64,
    max_ms: u64,
}

impl Retry {
    /// How long it waits, milliseconds: longer with each delivery that failed.
    pub(crate) fn delay_ms(&self, has_failed: bool, failed_count: u32) -> u64 {
        let waits = if has_failed { self.of_failed } else { self.of_returned };
        if waits { self.min_ms.saturating_mul(failed_count.max(1).into()).min(self.max_ms) } else { 0 }
    }
}

/// Arguments of queues of each type, in the order in which the original compares them. Those of streams are known by name,
/// as they are refused elsewhere.
const OF_CLASSIC: [&str; 14] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
];
const OF_QUORUM: [&str; 20] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-consumer-disconnected-timeout",
    CONSUMER_TIMEOUT,
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
];
const OF_NEITHER: [&str; 4] =
    ["x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes", "x-initial-cluster-size"];

/// How long a consumer may have a message: an argument of quorum queues, and of their consumers.
pub(crate) const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";

fn names_of(is_quorum: bool) -> &'static [&'static str] {
    if is_quorum { &OF_QUORUM } else { &OF_CLASSIC }
}

/// Longest time that may be asked for, milliseconds: ten years.
pub(crate) const EXPIRY_MAX_MS: u64 = 315_360_000_000;

/// What is wrong with a time in milliseconds, if anything is.
pub(crate) fn check_expiry(number: i64) -> std::result::Result<u64, String> {
    match u64::try_from(number) {
        Err(_) => Err(format!("{{value_negative,{number}}}")),
        Ok(ms) if ms > EXPIRY_MAX_MS => Err(format!("{{value_too_large,{number}}}")),
        Ok(ms) => Ok(ms),
    }
}

fn invalid(name: &str, what: &str, why: impl std::fmt::Display) -> Exception {
    Exception::precondition(format!("invalid arg '{name}' for {what}: {why}"))
}

/// An argument of a type that it may not have.
fn unacceptable(name: &str, what: &str, found: Value<'_>) -> Exception {
    invalid(name, what, format!("{{unacceptable_type,{}}}", found.type_name()))
}

/// An argument that is to be an integer and is none.
pub(crate) fn mistyped(name: &str, what: &str, found: Value<'_>) -> Exception {
    invalid(name, what, format!("\"expected integer, got {}\"", found.type_name()))
}

/// An argument that is a count: an integer that is not negative.
pub(crate) fn count_of(name: &str, what: &str, value: Value<'_>) -> Result<u64> {
    let number = value.integer().ok_or_else(|| mistyped(name, what, value))?;
    u64::try_from(number).map_err(|_| invalid(name, what, format!("{{value_negative,{number}}}")))
}

/// An argument that queues, or their consumers, of other types have.
pub(crate) fn of_other_type(name: &str, what: &str, is_quorum: bool) -> Exception {
    let kind = if is_quorum { "rabbit_quorum_queue" } else { "rabbit_classic_queue" };
    Exception::precondition(format!("invalid arg '{name}' for {what} of queue type {kind}"))
}

/// Looks arguments up, and words what is wrong with them.
struct Look<'a> {
    table: Table<'a>,
    /// `queue 'q' in vhost '/'`.
    what: &'a str,
    is_quorum: bool,
}

impl<'a> Look<'a> {
    fn invalid(&self, name: &str, why: impl std::fmt::Display) -> Exception {
        invalid(name, self.what, why)
    }

    fn unacceptable(&self, name: &str, found: Value<'_>) -> Exception {
        unacceptable(name, self.what, found)
    }

    /// The argument, if queues of the type have it: else nobody looks at its value.
    fn own(&self, name: &str) -> Option<Value<'a>> {
        self.table.get(name).filter(|_| names_of(self.is_quorum).contains(&name))
    }

    /// An integer that is not negative.
    fn count(&self, name: &str) -> Result<Option<u64>> {
        self.own(name).map(|value| count_of(name, self.what, value)).transpose()
    }

    /// A time in milliseconds.
    fn time(&self, name: &str, may_be_none: bool) -> Result<Option<u64>> {
        let Some(value) = self.own(name) else { return Ok(None) };
        match value.integer().ok_or_else(|| mistyped(name, self.what, value))? {
            0 if !may_be_none => Err(self.invalid(name, "{value_zero,0}")),
            number => check_expiry(number).map(Some).map_err(|why| self.invalid(name, why)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.own(name) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| self.unacceptable(name, value)),
        }
    }

    /// One of these texts, or nothing.
    fn one_of(&self, name: &str, known: &[&str], otherwise: &str) -> Result<Option<&'a str>> {
        match self.text(name)? {
            Some(text) if !known.contains(&text) => Err(self.invalid(name, otherwise)),
            text => Ok(text),
        }
    }

    fn flag(&self, name: &str) -> Result<bool> {
        match self.own(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => Err(self.unacceptable(name, value)),
        }
    }
}

impl Arguments {
    /// Reads the arguments of a queue. `what` is how error texts call it. What is wrong first is told: by the order in which
    /// the original looks at them.
    pub(crate) fn read(table: Table<'_>, what: &str) -> Result<Self> {
        check_exchange_name(table, "x-dead-letter-exchange", what)?;
        let is_quorum = type_of(table, what)?;
        let look = Look { table, what, is_quorum };
        let expires_ms = look.time("x-expires", false)?;
        let message_ttl_ms = look.time("x-message-ttl", true)?;
        let dead_letter_exchange = look.text("x-dead-letter-exchange")?.map(str::to_owned);
        let dead_letter_key = look.text("x-dead-letter-routing-key")?.map(|key| key.as_bytes().to_vec());
        if dead_letter_key.is_some() && dead_letter_exchange.is_none() {
            return Err(look.invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        let strategies = ["at-most-once", "at-least-once"];
        let strategy = look.one_of("x-dead-letter-strategy", &strategies, "invalid_dlx_strategy")?;
        let (max_length, max_length_bytes) = (look.count("x-max-length")?, look.count("x-max-length-bytes")?);
        for inert in ["x-max-in-memory-length", "x-max-in-memory-bytes"] {
            look.count(inert)?;
        }
        let max_priority = priority_of(&look)?;
        let policies = ["drop-head", "reject-publish", "reject-publish-dlx"];
        let overflow = match look.one_of("x-overflow", &policies, "invalid_overflow")? {
            Some("reject-publish") => OverflowPolicy::RejectPublish,
            Some("reject-publish-dlx") => OverflowPolicy::RejectPublishDlx,
            _ => OverflowPolicy::DropHead,
        };
        match look.count("x-queue-version")? {
            None | Some(2) => {}
            Some(other) => {
                let why = format!("\"unsupported queue version '{other}'\"");
                return Err(look.invalid("x-queue-version", why));
            }
        }
        let single_active_consumer = look.flag("x-single-active-consumer")?;
        look.count("x-consumer-disconnected-timeout")?;
        let consumer_timeout_ms = look.count(CONSUMER_TIMEOUT)?;
        if look.count("x-quorum-initial-group-size")? == Some(0) {
            return Err(look.invalid("x-quorum-initial-group-size", "{value_zero,0}"));
        }
        let locators = ["client-local", "balanced", "random", "least-leaders"];
        look.one_of("x-queue-leader-locator", &locators, "invalid_queue_locator_arg")?;
        let delivery_limit = limit_of(&look)?;
        check_names(&look)?;
        Ok(Arguments {
            is_quorum,
            message_ttl_ms,
            expires_ms,
            max_length,
            max_length_bytes,
            overflow,
            dead_letter_exchange,
            dead_letter_key,
            dead_letters_at_least_once: strategy == Some("at-least-once"),
            max_priority,
            single_active_consumer,
            delivery_limit,
            retry: retry_of(&look),
            consumer_timeout_ms,
        })
    }

    /// The level of a message of that priority, if the queue has levels.
    pub(crate) fn level(&self, priority: Option<u8>) -> Option<u8> {
        let unsaid = if self.is_quorum { QUORUM_PRIORITY } else { 0 };
        self.max_priority.map(|max| priority.unwrap_or(unsaid).min(max))
    }

    /// Whether dead letters that no queue takes wait for one: the original has that where a full queue refuses, and takes
    /// it for at most once elsewhere.
    pub(crate) fn keeps_letters(&self) -> bool {
        self.dead_letters_at_least_once
            && self.dead_letter_exchange.is_some()
            && self.overflow != OverflowPolicy::DropHead
    }

    /// Refuses arguments that differ from those of what is there already, in the original's words: with their types where
    /// one is missing, and without them where both are there.
    pub(crate) fn check_same(what: &str, names: &[&str], known: &[u8], asked: &[u8]) -> Result<()> {
        let (known, asked) = (table(known), table(asked));
        for name in names {
            let (known, asked) = (compared(known, name), compared(asked, name));
            if is_same(known, asked) {
                continue;
            }
            let is_plain = known.is_some() && asked.is_some();
            let shown = |value: Option<Value<'_>>| match value {
                None => "none".to_owned(),
                Some(value) if is_plain => format!("'{}'", text_of(value)),
                Some(value) => format!("the value '{}' of type '{}'", text_of(value), value.type_name()),
            };
            return Err(Exception::precondition(format!(
                "inequivalent arg '{name}' for {what}: received {} but current is {}",
                shown(asked),
                shown(known)
            )));
        }
        Ok(())
    }

    /// [`Arguments::check_same`] for queues: what queues of the type have that is there already.
    pub(crate) fn check_same_queue(&self, what: &str, known: &[u8], asked: &[u8]) -> Result<()> {
        Arguments::check_same(what, names_of(self.is_quorum), known, asked)
    }
}

/// An argument as it is compared: the type that nobody says is there all the same.
fn compared<'a>(table: Table<'a>, name: &str) -> Option<Value<'a>> {
    match table.get(name) {
        None if name == "x-queue-type" => Some(Value::Text(CLASSIC.as_bytes())),
        value => value,
    }
}

/// An argument that names an exchange is text.
pub(crate) fn check_exchange_name(table: Table<'_>, name: &str, what: &str) -> Result<()> {
    match table.get(name) {
        None | Some(Value::Text(_)) => Ok(()),
        Some(other) => Err(Exception::precondition(format!(
            "invalid type '{}' for arg '{name}' in {what}",
            other.type_name()
        ))),
    }
}

/// Whether these arguments ask for a quorum queue.
pub(crate) fn type_of(table: Table<'_>, what: &str) -> Result<bool> {
    const NAME: &str = "x-queue-type";
    let Some(value) = table.get(NAME) else { return Ok(false) };
    match value.text() {
        Some("" | "undefined" | CLASSIC) => Ok(false),
        Some(QUORUM) => Ok(true),
        Some("stream") => {
            Err(Exception::not_implemented(format!("queue type 'stream' of {what} is not built")))
        }
        Some(other) => Err(invalid(NAME, what, format!("\"unsupported queue type '{other}'\""))),
        None => Err(unacceptable(NAME, what, value)),
    }
}

/// Refuses arguments that only queues of other types have.
fn check_names(look: &Look<'_>) -> Result<()> {
    let own = names_of(look.is_quorum);
    let others = names_of(!look.is_quorum).iter().chain(&OF_NEITHER).filter(|name| !own.contains(name));
    for (name, _) in look.table.fields() {
        if let Some(name) = others.clone().find(|other| other.as_bytes() == name) {
            return Err(of_other_type(name, look.what, look.is_quorum));
        }
    }
    Ok(())
}

/// Integers are compared whatever their width.
fn is_same(known: Option<Value<'_>>, asked: Option<Value<'_>>) -> bool {
    match (known, asked) {
        (Some(known), Some(asked)) => {
            known == asked || (known.integer().is_some() && known.integer() == asked.integer())
        }
        (None, None) => true,
        _ => false,
    }
}

pub(crate) fn text_of(value: Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Time(value) => value.to_string(),
        value => value.integer().map_or(String::new(), |number| number.to_string()),
    }
}

fn priority_of(look: &Look<'_>) -> Result<Option<u8>> {
    const NAME: &str = "x-max-priority";
    match look.count(NAME)? {
        None => Ok(look.is_quorum.then_some(QUORUM_PRIORITY_MAX)),
        Some(0) => Ok(None),
        Some(level) => match u8::try_from(level) {
            Ok(level) => Ok(Some(level)),
            Err(_) => Err(look.invalid(NAME, format!("{{max_value_exceeded,{level}}}"))),
        },
    }
}

fn limit_of(look: &Look<'_>) -> Result<Option<u32>> {
    const NAME: &str = "x-delivery-limit";
    // With the one that comes after as many that failed.
    let Some(value) = look.own(NAME) else { return Ok(look.is_quorum.then_some(QUORUM_DELIVERY_LIMIT + 1)) };
    let number = value.integer().ok_or_else(|| mistyped(NAME, look.what, value))?;
    Ok(u32::try_from(number).ok().map(|limit| limit.saturating_add(1)))
}

/// How what is given back waits. As in the original, what makes no sense means that it does not.
fn retry_of(look: &Look<'_>) -> Option<Retry> {
    let (of_failed, of_returned) = match look.own("x-delayed-retry-type")?.text()? {
        "all" => (true, true),
        "failed" => (true, false),
        "returned" => (false, true),
        _ => return None,
    };
    let time = |name: &str| {
        let ms = u64::try_from(look.own(name)?.integer()?).ok()?;
        (ms > 0).then_some(ms)
    };
    let min_ms = time("x-delayed-retry-min")?;
    let max_ms = time("x-delayed-retry-max").unwrap_or(min_ms);
    Some(Retry { of_failed, of_returned, min_ms, max_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::TableWriter;

    const WHAT: &str = "queue 'q' in vhost '/'";

    fn fields(all: &[(&str, Value<'_>)]) -> Vec<u8> {
        let mut writer = TableWriter::default();
        for (name, value) in all {
            writer.field(name, *value);
        }
        writer.finish()
    }

    #[track_caller]
    fn refused(all: &[(&str, Value<'_>)], expected: &str) {
        let fields = fields(all);
        let refused = Arguments::read(table(&fields), WHAT).unwrap_err();
        assert_eq!(refused.explanation, expected);
    }

    const QUORUM_TYPE: (&str, Value<'static>) = ("x-queue-type", Value::Text(b"quorum"));

    #[test]
    fn wrong_arguments_are_refused_in_the_originals_words() {
        let long = Value::I64(315_360_000_001);
        for (name, value, why) in [
            ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
            ("x-message-ttl", Value::Text(b"1"), "\"expected integer, got longstr\""),
            ("x-message-ttl", long, "{value_too_large,315360000001}"),
            ("x-expires", Value::I32(0), "{value_zero,0}"),
            ("x-expires", Value::I32(-5), "{value_negative,-5}"),
            ("x-max-length", Value::Bool(true), "\"expected integer, got bool\""),
            ("x-max-length-bytes", Value::I8(-1), "{value_negative,-1}"),
            ("x-overflow", Value::Text(b"zzz"), "invalid_overflow"),
            ("x-overflow", Value::I32(1), "{unacceptable_type,signedint}"),
            ("x-queue-type", Value::Text(b"zzz"), "\"unsupported queue type 'zzz'\""),
            ("x-queue-type", Value::I32(1), "{unacceptable_type,signedint}"),
            ("x-queue-version", Value::I32(1), "\"unsupported queue version '1'\""),
            ("x-queue-leader-locator", Value::Text(b"zzz"), "invalid_queue_locator_arg"),
            ("x-single-active-consumer", Value::Text(b"true"), "{unacceptable_type,longstr}"),
            ("x-max-priority", Value::I32(256), "{max_value_exceeded,256}"),
            ("x-max-priority", Value::I32(-1), "{value_negative,-1}"),
            ("x-dead-letter-routing-key", Value::Text(b"k"), "routing_key_but_no_dlx_defined"),
        ] {
            refused(&[(name, value)], &format!("invalid arg '{name}' for {WHAT}: {why}"));
        }
        let quorum = [
            ("x-dead-letter-strategy", Value::Text(b"zzz"), "invalid_dlx_strategy"),
            ("x-quorum-initial-group-size", Value::I32(0), "{value_zero,0}"),
        ];
        for (name, value, why) in quorum {
            refused(&[QUORUM_TYPE, (name, value)], &format!("invalid arg '{name}' for {WHAT}: {why}"));
        }
        let text = format!("invalid type 'signedint' for arg 'x-dead-letter-exchange' in {WHAT}");
        refused(&[("x-dead-letter-exchange", Value::I32(1))], &text);
    }

    #[test]
    fn arguments_of_other_types_are_refused_whatever_their_value_and_unknown_ones_are_not() {
        let classic = "rabbit_classic_queue";
        for (all, name, kind) in [
            (&[("x-delivery-limit", Value::Void)][..], "x-delivery-limit", classic),
            (&[("x-dead-letter-strategy", Value::Text(b"zzz"))], "x-dead-letter-strategy", classic),
            (&[("x-max-age", Value::Text(b"1h"))], "x-max-age", classic),
            (&[("x-consumer-timeout", Value::I32(1))], "x-consumer-timeout", classic),
            (&[("x-delayed-retry-type", Value::Text(b"all"))], "x-delayed-retry-type", classic),
            (&[QUORUM_TYPE, ("x-max-priority", Value::I32(5))], "x-max-priority", "rabbit_quorum_queue"),
            (&[QUORUM_TYPE, ("x-queue-mode", Value::Text(b"lazy"))], "x-queue-mode", "rabbit_quorum_queue"),
        ] {
            refused(all, &format!("invalid arg '{name}' for {WHAT} of queue type {kind}"));
        }
        let fine = [("x-queue-mode", Value::Text(b"lazy")), ("x-own", Value::Void), ("own", Value::I32(-1))];
        assert!(Arguments::read(table(&fields(&fine)), WHAT).is_ok());
    }

    #[test]
    fn integers_of_any_width_are_the_same_and_unknown_arguments_do_not_count() {
        let known = fields(&[("x-message-ttl", Value::I32(1_000)), ("x-unknown", Value::Bool(true))]);
        let same = fields(&[("x-message-ttl", Value::I64(1_000))]);
        let classic = Arguments::default();
        assert_eq!(classic.check_same_queue(WHAT, &known, &same), Ok(()));
        let refused = |known: &[u8], asked: &[u8]| {
            classic.check_same_queue(WHAT, known, asked).unwrap_err().explanation
        };
        let differs = |what: &str| format!("inequivalent arg 'x-message-ttl' for {WHAT}: {what}");
        assert_eq!(
            refused(&fields(&[]), &same),
            differs("received the value '1000' of type 'long' but current is none")
        );
        assert_eq!(
            refused(&known, &fields(&[])),
            differs("received none but current is the value '1000' of type 'signedint'")
        );
        let other = fields(&[("x-message-ttl", Value::I32(2_000))]);
        assert_eq!(refused(&known, &other), differs("received '2000' but current is '1000'"));
        assert_eq!(
            refused(&fields(&[]), &fields(&[QUORUM_TYPE])),
            format!("inequivalent arg 'x-queue-type' for {WHAT}: received 'quorum' but current is 'classic'")
        );
        let said = fields(&[("x-queue-type", Value::Text(b"classic"))]);
        assert_eq!(classic.check_same_queue(WHAT, &fields(&[]), &said), Ok(()));
    }

    #[test]
    fn what_is_given_back_waits_longer_the_more_often_it_failed() {
        let of = |kind: &'static [u8], max: Value<'static>| {
            let kind = ("x-delayed-retry-type", Value::Text(kind));
            let all =
                [QUORUM_TYPE, kind, ("x-delayed-retry-min", Value::I32(100)), ("x-delayed-retry-max", max)];
            Arguments::read(table(&fields(&all)), WHAT).unwrap().retry
        };
        let retry = of(b"failed", Value::I32(250)).unwrap();
        assert_eq!([1, 2, 3].map(|count| retry.delay_ms(true, count)), [100, 200, 250]);
        assert_eq!(retry.delay_ms(false, 2), 0);
        let retry = of(b"returned", Value::I32(0)).unwrap();
        assert_eq!((retry.delay_ms(true, 2), retry.delay_ms(false, 0)), (0, 100), "no more than the least");
        assert_eq!(of(b"all", Value::I32(9)).unwrap().delay_ms(true, 1), 9);
        assert_eq!(of(b"disabled", Value::I32(9)), None);
    }
}

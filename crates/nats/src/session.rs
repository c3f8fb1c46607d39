//! One client's session: operations in, effects on subscriptions and on what is gathered for others.
//!
//! Takes bytes and returns what to do next; sockets and timers are the connection's.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering::Relaxed};

use broker::{Principal, Watch};
use tokio::sync::mpsc;

use crate::{
    codec::{Connect, Fault, Limits, Op, Parser, Publish, Range, error_line, no_responders},
    core::{
        client::Client,
        fanout::{Fanout, Laggard, Message},
        hub::{Hub, Subscription},
        subject,
    },
    jetstream::{
        acks::{self, Acks, Waiting},
        consumer::ack,
        intake::{self, Intake, Work, onward},
    },
    rights::Rights,
    server::{ConnectionInfo, Server},
    user_info::{USER_INFO, user_info},
    welcome::{News, info_line},
};

/// Subscriptions over which a session looks for ones that are over, when there are twice as many as after the last look.
const SWEEP_MIN: usize = 64;

/// What a look at the buffer came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything that is whole was handled; so many bytes are done with.
    Handled(usize),
    /// So many bytes are done with; the client wants to be known by this.
    Authenticate(usize, Box<Connect>),
    /// The connection ends. What it is told was gathered.
    End(Ending),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Told with its text.
    Told(&'static str),
    /// Closed without a text.
    Silent(&'static str),
}

/// One session.
pub(crate) struct Session {
    server: Arc<Server>,
    info: ConnectionInfo,
    client: Arc<Client>,
    hub: Arc<Hub>,
    fanout: Fanout,
    intake: Intake,
    acks: mpsc::Sender<Waiting>,
    parser: Parser,
    limits: Limits,
    subscriptions: HashMap<Box<[u8]>, Arc<Subscription>>,
    sweep_at: usize,
    connect: Connect,
    /// `None` until the client is let in.
    rights: Option<Rights>,
    has_ponged: bool,
    /// Told once when a user changes, see [`Session::watch_users`].
    pub users: Watch,
    /// PINGs that the client has not answered.
    pub pings_out: u32,
    /// Messages and bytes of the read that is handled.
    came: (u64, u64),
}

impl Session {
    /// The session, and what its publishers of streams are still to be told.
    pub(crate) fn new(
        server: Arc<Server>,
        info: ConnectionInfo,
        client: Arc<Client>,
    ) -> (Self, mpsc::Receiver<Waiting>) {
        let open = server.lets_anyone_in().then(|| Rights::of(Principal::anonymous()));
        let hub = server.hub("public");
        let fanout = Fanout::new(hub.clone(), server.seed());
        let limits = Limits {
            control_line_len_max: server.options.control_line_len_max,
            payload_len_max: server.options.payload_len_max,
        };
        let intake = Intake::new(server.account("public"));
        let (acks, waiting) = acks::queue();
        let session = Session {
            server,
            info,
            client,
            hub,
            fanout,
            intake,
            acks,
            parser: Parser::default(),
            limits,
            subscriptions: HashMap::new(),
            sweep_at: SWEEP_MIN,
            connect: Connect::default(),
            rights: open,
            has_ponged: false,
            users: Watch::new(),
            pings_out: 0,
            came: (0, 0),
        };
        session.server.broker.users().watch(&session.users);
        (session, waiting)
    }

    /// Says who is here, unless that went out before: the first bytes of a connection.
    pub(crate) fn greet(&mut self) {
        if self.info.greeted.is_none() {
            self.tell_news(&News::default());
        }
    }

    fn tell_news(&mut self, news: &News<'_>) {
        let line = info_line(&self.server, &self.info, self.client.id, news);
        self.tell(line.as_bytes());
    }

    /// Handles whole operations at the start of `buffer`, as far as there are.
    pub(crate) fn handle(&mut self, buffer: &[u8]) -> Step {
        let step = self.handle_all(buffer);
        // Counted once per read: others look at the counters, and each look back costs.
        let (messages, bytes) = std::mem::take(&mut self.came);
        let counters = &self.client.counters;
        counters.in_messages.fetch_add(messages, Relaxed);
        counters.in_bytes.fetch_add(bytes, Relaxed);
        step
    }

    fn handle_all(&mut self, buffer: &[u8]) -> Step {
        let mut done = 0;
        loop {
            let rest = buffer.get(done..).unwrap_or_default();
            let (op, taken) = match self.parser.next(rest, &self.limits) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return Step::Handled(done),
                Err(fault) => return Step::End(self.fault(fault)),
            };
            done += taken;
            if self.rights.is_none() && !matches!(op, Op::Connect(_)) {
                return Step::End(self.end("Authorization Violation"));
            }
            match self.operate(rest, op) {
                Ok(None) => {}
                Ok(Some(connect)) => return Step::Authenticate(done, connect),
                Err(ending) => return Step::End(ending),
            }
        }
    }

    fn operate(&mut self, buffer: &[u8], op: Op) -> Result<Option<Box<Connect>>, Ending> {
        match op {
            Op::Publish(publish) => self.publish(buffer, &publish)?,
            Op::Ping => self.pong(),
            Op::Pong => self.pings_out = 0,
            Op::Subscribe { subject, queue, sid } => self.subscribe(buffer, subject, queue, sid),
            Op::Unsubscribe { sid, max } => self.unsubscribe(sid.of(buffer), max),
            Op::Connect(json) => {
                let connect = Connect::parse(json.of(buffer), &self.connect);
                return connect.map(|connect| Some(Box::new(connect))).ok_or(Ending::Silent("bad CONNECT"));
            }
            Op::Info(json) => {
                let news =
                    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json.of(buffer));
                news.map_err(|_| Ending::Silent("bad INFO"))?;
            }
            Op::Error => return Err(Ending::Silent("an error of the client")),
            Op::Ignored => {}
        }
        Ok(None)
    }

    fn publish(&mut self, buffer: &[u8], publish: &Publish) -> Result<(), Ending> {
        if publish.headers_len.is_some() && !self.connect.headers {
            return Err(Ending::Silent("headers from a client that did not announce them"));
        }
        self.came.0 += 1;
        self.came.1 += publish.payload.len() as u64;
        let subject = publish.subject.of(buffer);
        let reply = publish.reply.map(|reply| reply.of(buffer));
        if !self.may_publish(subject) {
            self.refuse("Publish", subject, None);
            return Ok(());
        }
        if let Some(reply) = reply.filter(|reply| is_reserved(reply)) {
            let reply = String::from_utf8_lossy(reply);
            self.tell_error(&format!("Permissions Violation for Publish with Reply of \"{reply}\""));
            return Ok(());
        }
        if self.connect.pedantic && !subject::is_literal(subject) {
            self.tell_error("Invalid Publish Subject");
        }
        let message =
            Message { subject, reply, headers_len: publish.headers_len, payload: publish.payload.of(buffer) };
        let but = (!self.client.wants_echo()).then_some(self.client.id);
        let is_taken = self.intake.offer(&message);
        let ended = publish.payload.and(2).of(buffer);
        let mut reached = self.fanout.publish_line(&message, ended, but) + usize::from(is_taken);
        reached += usize::from(reply.is_some_and(|reply| self.serve(subject, reply)));
        reached += usize::from(!is_taken && self.intake.offer_to_routes(&message, reached > 0));
        self.tell_ok();
        if let (0, Some(reply), true) = (reached, reply, self.connect.no_responders) {
            self.tell_nobody_listens(reply, subject);
        }
        Ok(())
    }

    /// A request that reached nobody is answered to the subscription that waits for its reply.
    fn tell_nobody_listens(&mut self, reply: &[u8], subject: &[u8]) {
        let mut waiting = None;
        self.hub.matching(reply, |subscription| {
            if subscription.client.id == self.client.id && waiting.is_none() {
                waiting = Some(subscription.clone());
            }
        });
        if let Some(subscription) = waiting {
            self.tell(&no_responders(reply, &subscription.sid, subject));
        }
    }

    fn subscribe(&mut self, buffer: &[u8], subject: Range, queue: Option<Range>, sid: Range) {
        let (subject, sid) = (subject.of(buffer), sid.of(buffer));
        let queue = queue.map(|queue| queue.of(buffer));
        let Some(pattern) = subject::pattern(subject) else {
            return self.tell_error("Invalid Subject");
        };
        if !self.rights.as_ref().is_some_and(|rights| rights.may_subscribe(subject, queue)) {
            return self.refuse("Subscription", subject, queue);
        }
        if self.subscriptions.get(sid).is_some_and(|known| !known.is_over()) {
            return self.tell_ok();
        }
        if self.subscriptions.len() >= self.server.options.subscriptions_max {
            return self.tell_error("maximum subscriptions exceeded");
        }
        self.sweep();
        let filtering = self.rights.as_ref().filter(|rights| rights.filters);
        let filter = filtering.map(|rights| rights.principal.clone());
        let made = self.hub.subscribe(pattern, queue, sid, &self.client, filter);
        self.subscriptions.insert(sid.into(), made);
        self.count_subscriptions();
        self.tell_ok();
    }

    fn unsubscribe(&mut self, sid: &[u8], max: u64) {
        self.fanout.count();
        if let Some(known) = self.subscriptions.get(sid) {
            known.limit(max);
            if max == 0 || known.is_over() {
                self.hub.unsubscribe(known);
                self.subscriptions.remove(sid);
                self.count_subscriptions();
            }
        }
        self.tell_ok();
    }

    fn count_subscriptions(&self) {
        self.client.counters.subscriptions.store(self.subscriptions.len() as u64, Relaxed);
    }

    /// Forgets subscriptions that had all they wanted.
    fn sweep(&mut self) {
        if self.subscriptions.len() >= self.sweep_at {
            self.subscriptions.retain(|_, one| !one.is_over());
            self.sweep_at = SWEEP_MIN.max(self.subscriptions.len() * 2);
        }
    }

    /// A CONNECT that was checked; `principal` is whom it speaks for. Subscriptions of an earlier one are gone.
    pub(crate) fn admit(&mut self, connect: Connect, principal: Principal) -> Result<(), Ending> {
        if connect.account.is_some() {
            return Err(self.end("Authorization Violation"));
        }
        if !(0..=1).contains(&connect.protocol) {
            return Err(self.end("invalid client protocol"));
        }
        if connect.no_responders && !connect.headers {
            return Err(self.end("no responders requires headers support"));
        }
        self.client.set_options(connect.headers, connect.echo);
        let hub = self.server.hub(&principal.tenant);
        if !Arc::ptr_eq(&hub, &self.hub) {
            self.leave();
            self.fanout.flush(self.server.options.pending_len_max);
            self.fanout = Fanout::new(hub.clone(), self.server.seed());
            self.intake = Intake::new(self.server.account(&principal.tenant));
            self.hub = hub;
        }
        let rights = Rights::of(principal);
        self.client.set_notes_replies(rights.responds);
        self.server.registry.note(self.client.id, &connect, &rights.principal);
        self.connect = connect;
        self.rights = Some(rights);
        self.tell_ok();
        Ok(())
    }

    /// Has [`Session::users`] told of the next change.
    pub(crate) fn watch_users(&self) {
        self.server.broker.users().watch(&self.users);
    }

    /// What it said of itself.
    pub(crate) fn connect(&self) -> &Connect {
        &self.connect
    }

    /// It speaks for `principal` now, of whom something may have changed: what it may not listen to any more it hears no
    /// more.
    pub(crate) fn renew(&mut self, principal: Principal) -> Result<(), Ending> {
        let Some(rights) = &self.rights else { return Ok(()) };
        if rights.principal.tenant != principal.tenant {
            return Err(self.refuse_entry());
        }
        if *rights.principal == principal {
            return Ok(());
        }
        let had_filter = rights.filters;
        let rights = Rights::of(principal);
        self.client.set_notes_replies(rights.responds);
        self.server.registry.note(self.client.id, &self.connect, &rights.principal);
        let filter = Some(rights.principal.clone()).filter(|_| rights.filters);
        let may = |one: &Subscription| rights.may_subscribe(&one.subject(), one.queue.as_deref());
        let all: Vec<_> = self.subscriptions.values().cloned().collect();
        let (stay, go): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| may(one));
        self.rights = Some(rights);
        if had_filter || filter.is_some() {
            stay.iter().for_each(|one| self.hub.filter(one, filter.clone()));
        }
        for one in go {
            self.hub.unsubscribe(&one);
            self.subscriptions.remove(&one.sid);
            self.refuse("Subscription", &one.subject(), one.queue.as_deref());
        }
        self.count_subscriptions();
        Ok(())
    }

    /// A CONNECT that was refused.
    pub(crate) fn refuse_entry(&mut self) -> Ending {
        self.end("Authorization Violation")
    }

    /// Bytes came.
    pub(crate) fn note_active(&self) {
        let now = self.server.broker.env().clock.wall_ms();
        self.client.counters.active_ms.store(now, Relaxed);
    }

    /// The number of its connection.
    pub(crate) fn id(&self) -> u64 {
        self.client.id
    }

    /// Whether it said who it is, or need not.
    pub(crate) fn is_in(&self) -> bool {
        self.rights.is_some()
    }

    fn may_publish(&self, subject: &[u8]) -> bool {
        self.rights.as_ref().is_some_and(|rights| {
            rights.may_publish(subject) || (rights.may_respond(subject) && self.client.take_reply(subject))
        })
    }

    /// Answers what the server itself is asked. Whether it was.
    fn serve(&mut self, subject: &[u8], reply: &[u8]) -> bool {
        if subject != USER_INFO {
            return false;
        }
        let Some(rights) = &self.rights else { return false };
        let answer = user_info(&self.server, &self.info, rights);
        let message = Message { subject: reply, reply: None, headers_len: None, payload: answer.as_bytes() };
        self.fanout.publish(&message, None);
        true
    }

    fn refuse(&mut self, what: &str, subject: &[u8], queue: Option<&[u8]>) {
        let preposition = if what == "Publish" { "for Publish to" } else { "for Subscription to" };
        let mut text =
            format!("Permissions Violation {preposition} \"{}\"", String::from_utf8_lossy(subject));
        if let Some(queue) = queue {
            text += &format!(" using queue \"{}\"", String::from_utf8_lossy(queue));
        }
        self.tell_error(&text);
    }

    fn fault(&mut self, fault: Fault) -> Ending {
        match fault {
            Fault::UnknownOperation => self.end("Unknown Protocol Operation"),
            Fault::ControlLine => self.end("maximum control line exceeded"),
            Fault::PayloadTooLong => self.end("Maximum Payload Violation"),
            Fault::Arguments => Ending::Silent("arguments that do not read"),
        }
    }

    /// Tells why the connection ends.
    pub(crate) fn end(&mut self, text: &'static str) -> Ending {
        self.tell_error(text);
        Ending::Told(text)
    }

    fn pong(&mut self) {
        self.tell(b"PONG\r\n");
        if !std::mem::replace(&mut self.has_ponged, true) && self.connect.protocol >= 1 {
            let account = self.rights.as_ref().map(|rights| account_of(&rights.principal.tenant).to_owned());
            self.tell_news(&News { is_known: true, account: account.as_deref(), ..News::default() });
        }
    }

    /// Asks whether the client is there.
    pub(crate) fn ping(&mut self) {
        self.pings_out += 1;
        self.tell(b"PING\r\n");
    }

    /// Says that the server is about to go.
    pub(crate) fn say_goodbye(&mut self) {
        self.tell_news(&News { is_known: self.is_in(), is_lame: true, ..News::default() });
    }

    fn tell_ok(&mut self) {
        if self.connect.verbose {
            self.tell(b"+OK\r\n");
        }
    }

    fn tell_error(&mut self, text: &str) {
        self.tell(error_line(text).as_bytes());
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.fanout.send(&self.client, bytes);
    }

    /// Stores what was published to streams and answers the API, in order. Acknowledgements follow on their own.
    pub(crate) async fn work_off(&mut self) {
        for work in self.intake.take() {
            match work {
                Work::Publish(runs) => {
                    let acks = intake::publish(&self.server.broker, runs).await;
                    if !acks.all.is_empty() || !acks.again.is_empty() {
                        // Nobody is told once the connection ends.
                        let _gone = self.acks.send((self.intake.account().clone(), acks)).await;
                    }
                }
                Work::Routed(lones) => {
                    let (acks, refused) = onward::publish_alone(&self.server.broker, lones).await;
                    for one in refused {
                        // The only errors at which clients go on begin so.
                        let subject = String::from_utf8_lossy(&one.subject);
                        self.tell_error(&format!(
                            "Permissions Violation for Publish to \"{subject}\": not stored in {}",
                            one.why
                        ));
                    }
                    if !acks.all.is_empty() {
                        // Nobody is told once the connection ends.
                        let _gone = self.acks.send((self.intake.account().clone(), acks)).await;
                    }
                }
                Work::Acks(all) => {
                    let settled = ack::settle(&self.server.broker, self.intake.account(), &all).await;
                    // Who asked for an answer and gets none says it again.
                    let Ok(wait) = settled else { continue };
                    let all: Vec<_> = all
                        .into_iter()
                        .filter_map(|one| one.reply)
                        .map(|reply| (reply, Vec::new()))
                        .collect();
                    if !all.is_empty() {
                        // Nobody is told once the connection ends.
                        let _gone = self
                            .acks
                            .send((self.intake.account().clone(), Acks { wait, all, again: Vec::new() }))
                            .await;
                    }
                }
                Work::Pull { consumer, reply, body } => {
                    if let Some(status) = consumer.pull(&reply, &body) {
                        let headers_len = Some(status.len());
                        let message = Message { subject: &reply, reply: None, headers_len, payload: &status };
                        self.fanout.publish(&message, None);
                    }
                }
                Work::Request { request, reply, body } => {
                    let answers = request.answer(&self.server, self.intake.account(), &body).await;
                    let Some(reply) = reply else { continue };
                    for answer in answers {
                        let payload = [&answer.headers[..], &answer.body].concat();
                        let headers_len = Some(answer.headers.len()).filter(|len| *len > 0);
                        let message =
                            Message { subject: &reply, reply: None, headers_len, payload: &payload };
                        self.fanout.publish(&message, None);
                    }
                }
            }
        }
    }

    /// Hands over what was gathered.
    pub(crate) fn flush(&mut self) -> Option<Laggard> {
        self.fanout.flush(self.server.options.pending_len_max)
    }

    /// Whether those that it sent to should get a turn.
    pub(crate) fn take_turn(&mut self) -> bool {
        self.fanout.take_turn()
    }

    /// Bytes that the operation under way will have at least.
    pub(crate) fn wanted(&self) -> usize {
        self.parser.wanted()
    }

    /// Takes every subscription out.
    pub(crate) fn leave(&mut self) {
        for (_, subscription) in self.subscriptions.drain() {
            self.hub.unsubscribe(&subscription);
        }
        self.count_subscriptions();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Where clients may not have answers sent: acknowledgements would be taken for those of consumers.
fn is_reserved(reply: &[u8]) -> bool {
    [ack::PREFIX, b"_R_.", b"_GR_."]
        .iter()
        .any(|prefix| reply.len() > prefix.len() && reply.starts_with(prefix))
}

/// The account that a tenant is shown as.
pub(crate) fn account_of(tenant: &str) -> &str {
    if tenant == "public" { "$G" } else { tenant }
}

//! A connection's session: what its frames do. Sockets and timers are `connection`'s.
//!
//! - [`handshake`] is everything until the connection is open;
//! - [`manage`] has the methods that exchanges, queues and channels are managed with;
//! - [`consume`] has those that deliver: consume, cancel, get, qos, recover;
//! - [`publish`] takes messages in, [`reply`] those that go through no queue; [`settle`] takes the client's word on
//!   deliveries, and [`overdue`] ends those on which it takes too long; [`transact`] has confirms and transactions;
//!   [`room`] is what a client waits for that publishes more than there is room for; [`rights`] says what its user may do;
//!   [`failed`] words what is wrong beside what a method asks for, and [`ending`] takes channels and sessions apart, with the
//!   queues that are [`owned`].

mod consume;
mod ending;
mod failed;
mod handshake;
mod manage;
mod overdue;
mod owned;
mod publish;
mod reply;
mod rights;
mod room;
mod settle;
mod transact;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use broker::{Principal, PublishUnit, Watch};
use model::Seq;
use tokio::sync::mpsc;
use wire::Gathered;

use self::{
    failed::{internal, of_frame, unread},
    owned::Owned,
};
use crate::{
    channel::{Channel, Failed, assembly::Assembly, settling::Settling},
    client::Client,
    codec::{
        ContentHeader, Frame, FrameKind, Method, ProtocolHeader, next_frame, protocol_header, snippet, wanted,
    },
    error::{Code, Exception, Scope},
    held::Held,
    intake::{Answer, Intake, Kept},
    server::{ConnectionInfo, Server},
    vhost::{Vhost, routing::Resolved},
};

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It is closed without a word.
    Silent(&'static str),
    /// The client closed it and was answered.
    Done,
    /// It is told why, and may answer.
    Told(Box<Failed>),
    /// It is told why; what it sends cannot be read any more.
    Broken(Box<Failed>),
}

/// Where the connection is on its way to being open.
#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Header,
    Start,
    Tune,
    Open,
    Running,
}

/// Remembered answers of routing, per connection; those that lead to many queues count for more.
const KEPT_ROUTES: usize = 4_096;

/// Routes of one exchange, by key.
type ByKey = HashMap<Box<[u8]>, Arc<Resolved>>;

/// What a connection remembers of where its messages go.
#[derive(Default)]
struct Routes {
    generation: (u64, u64),
    /// By exchange and key.
    by_key: HashMap<Box<str>, ByKey>,
    /// How much of [`KEPT_ROUTES`] they take.
    count: usize,
    /// The one that was asked for last: publishers repeat themselves.
    last: Option<(String, Vec<u8>, Arc<Resolved>)>,
}

pub(crate) struct Session {
    server: Arc<Server>,
    info: ConnectionInfo,
    pub client: Arc<Client>,
    phase: Phase,
    principal: Option<Arc<Principal>>,
    /// Told when a user changes, once the session has logged in as one.
    users: Watch,
    /// As the client said it.
    user: String,
    vhost: Option<Arc<Vhost>>,
    channel_max: u16,
    channels: BTreeMap<u16, Channel>,
    owned: Owned,
    intake: Intake,
    settling: Settling,
    answers: mpsc::Sender<Answer>,
    /// What has to be durable before an answer may rest on what was published.
    staged: Seq,
    routes: Routes,
    /// Frames for the client, handed over when a read is handled.
    out: Vec<u8>,
    /// What has to be durable before `out` is handed over.
    out_wait: Seq,
    /// What came of the frame at hand, where it went wrong on its quick way.
    unfinished: Option<Failed>,
    wants_blocked: bool,
    wants_auth_close: bool,
    /// Whole frames were left because the client does not read what it gets for them.
    is_cut: bool,
    /// When it is looked next whether a delivery was not settled in time, by the monotonic clock, nanoseconds.
    look_ns: Option<u64>,
    /// Bytes of messages that are not whole or not committed, over all channels, and what is charged for them.
    held_len: usize,
    held: Held,
}

type Result<T> = std::result::Result<T, Failed>;

impl Session {
    pub(crate) fn new(
        server: Arc<Server>,
        info: ConnectionInfo,
        client: Arc<Client>,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        Session {
            held_len: 0,
            held: Held::new(&server.bodies),
            server,
            info,
            client,
            phase: Phase::default(),
            principal: None,
            users: Watch::new(),
            user: String::new(),
            vhost: None,
            channel_max: 0,
            channels: BTreeMap::new(),
            owned: Owned::default(),
            intake: Intake::default(),
            settling: Settling::default(),
            answers,
            staged: Seq(0),
            routes: Routes::default(),
            out: Vec::new(),
            out_wait: Seq(0),
            unfinished: None,
            wants_blocked: false,
            wants_auth_close: false,
            is_cut: false,
            look_ns: None,
        }
    }

    /// Whether whole frames were left that the client may have sent, until it has read more.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether the handshake is over.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Bytes that the frame at the start of `buffer` has at least.
    pub(crate) fn wanted(&self, buffer: &[u8]) -> usize {
        if self.phase == Phase::Header { 0 } else { wanted(buffer).min(self.client.frame_max() + 16) }
    }

    /// Handles whole frames at the start of `buffer`, as far as there are and the client reads what it gets for them, and
    /// answers how many bytes they were.
    pub(crate) async fn handle(&mut self, buffer: &[u8]) -> (usize, Option<Ending>) {
        let mut done = 0;
        self.is_cut = false;
        let ending = loop {
            // What there is most of makes no future: that is large, and would be moved for every frame.
            while let Some(len) = self.quick(buffer.get(done..).unwrap_or_default()) {
                done += len;
                if self.waits() {
                    break;
                }
            }
            match self.step(buffer.get(done..).unwrap_or_default()).await {
                Ok(0) => break None,
                Ok(len) => done += len,
                Err(ending) => break Some(ending),
            }
            if !self.client.has_room_now() {
                // What it asks for next waits until it has read some of that.
                self.is_cut = true;
                break None;
            }
        };
        let ending = match (ending, self.work_off().await) {
            (None, Err(failed)) => Some(Ending::Told(Box::new(failed))),
            (ending, _) => ending,
        };
        let ending = match (ending, self.sync_out().await) {
            (None, Err(failed)) => Some(Ending::Told(Box::new(failed))),
            (ending, _) => ending,
        };
        self.flush();
        (done, ending)
    }

    /// Waits until everything is durable that answers in `out` say. Those of declarations and bindings of one read wait
    /// together; when that fails, nobody is told of them.
    async fn sync_out(&mut self) -> Result<()> {
        let wait = std::mem::replace(&mut self.out_wait, Seq(0));
        if wait == Seq(0) {
            return Ok(());
        }
        self.server.broker.durable(wait).await.map_err(|error| {
            self.out.clear();
            internal(error)
        })
    }

    /// Hands over what waits for the client.
    pub(crate) fn flush(&mut self) {
        if !self.out.is_empty() {
            let mut gathered = Gathered::default();
            gathered.slice(&self.out);
            self.client.push(&mut gathered);
            self.out.clear();
        }
    }

    /// Handles the frame at the start of `buffer`; 0 bytes when it is not whole.
    async fn step(&mut self, buffer: &[u8]) -> std::result::Result<usize, Ending> {
        if self.phase == Phase::Header {
            return self.begin(buffer);
        }
        if self.waits() {
            self.catch_breath().await.map_err(|failed| Ending::Told(Box::new(failed)))?;
        }
        let frame = match next_frame(buffer, self.client.frame_max()) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(0),
            Err(fault) => {
                let exception = Exception::new(Code::FrameError, fault.text);
                return Err(Ending::Broken(Box::new(of_frame(exception))));
            }
        };
        let payload = buffer.get(frame.payload.clone()).unwrap_or_default();
        // Opening channels, and what manages exchanges and queues; everything else may send something at once.
        let is_answered_later =
            frame.kind == FrameKind::Method && matches!(payload, [0, 20, 0, 10, ..] | [0, 40 | 50, ..]);
        if !is_answered_later {
            self.sync_out().await.map_err(|failed| Ending::Told(Box::new(failed)))?;
        }
        match self.frame(&frame, payload).await {
            Ok(None) => {}
            Ok(Some(ending)) => return Err(ending),
            Err(failed) if failed.exception.scope() == Scope::Channel && frame.channel != 0 => {
                // What was declared before is answered before.
                self.sync_out().await.map_err(|failed| Ending::Told(Box::new(failed)))?;
                self.fail_channel(frame.channel, &failed).await;
            }
            Err(failed) => return Err(Ending::Told(Box::new(failed))),
        }
        Ok(frame.len)
    }

    fn begin(&mut self, buffer: &[u8]) -> std::result::Result<usize, Ending> {
        let Some(header) = protocol_header(buffer) else { return Ok(0) };
        if header != ProtocolHeader::Spoken {
            self.out.extend_from_slice(header.answer());
            return Err(Ending::Silent("another protocol"));
        }
        self.start();
        self.phase = Phase::Start;
        Ok(8)
    }

    /// Handles the frame at the start of `buffer` if it is one of those that there are most of, for which nothing has to be
    /// waited: publishes with their content, and the client's word on deliveries. How long it was; `None` for everything
    /// else, and for what is wrong.
    fn quick(&mut self, buffer: &[u8]) -> Option<usize> {
        if self.phase != Phase::Running || self.out_wait != Seq(0) {
            return None;
        }
        let frame = next_frame(buffer, self.client.frame_max()).ok()??;
        let payload = buffer.get(frame.payload.clone())?;
        let channel = self.channels.get_mut(&frame.channel).filter(|channel| !channel.is_closing)?;
        match frame.kind {
            FrameKind::Heartbeat => return None,
            FrameKind::Header | FrameKind::Body => {
                if !channel.assembly.expects(frame.kind) {
                    return None;
                }
                if let Err(failed) = self.content_frame(&frame, payload) {
                    self.unfinished = Some(failed);
                    return None;
                }
            }
            FrameKind::Method => {
                let [0, 60, 0, 40 | 80 | 90 | 120, ..] = payload else { return None };
                if channel.assembly.is_under_way() {
                    return None;
                }
                match Method::read(payload).ok()? {
                    Method::BasicPublish { exchange, routing_key, mandatory, immediate: false, .. } => {
                        channel.assembly.begin(exchange, routing_key.0, mandatory);
                    }
                    Method::BasicPublish { .. } => return None,
                    method => {
                        if let Err(exception) = self.settle(frame.channel, &method) {
                            self.unfinished = Some(Failed::of(exception, &method));
                            return None;
                        }
                    }
                }
            }
        }
        Some(frame.len)
    }

    /// Whether something has to be done before more is read.
    fn waits(&self) -> bool {
        self.intake.is_full() || self.held.is_short(self.held_len)
    }

    /// Stores what is gathered, and waits for memory, as far as that has to be.
    async fn catch_breath(&mut self) -> Result<()> {
        self.charge().await?;
        if self.intake.is_full() { self.work_off().await } else { Ok(()) }
    }

    async fn frame(&mut self, frame: &Frame, payload: &[u8]) -> Result<Option<Ending>> {
        if let Some(failed) = self.unfinished.take() {
            return Err(failed);
        }
        let has_content = matches!(frame.kind, FrameKind::Header | FrameKind::Body);
        let is_out_of_place = match frame.channel {
            0 => has_content,
            _ => frame.kind == FrameKind::Heartbeat || self.phase != Phase::Running,
        };
        if is_out_of_place {
            let text = snippet(frame.kind.octet(), payload);
            return Err(of_frame(Exception::new(Code::UnexpectedFrame, text)));
        }
        match frame.kind {
            FrameKind::Heartbeat => Ok(None),
            FrameKind::Method => self.method_frame(frame.channel, payload).await,
            FrameKind::Header | FrameKind::Body => {
                self.content_frame(frame, payload)?;
                Ok(None)
            }
        }
    }

    async fn method_frame(&mut self, number: u16, payload: &[u8]) -> Result<Option<Ending>> {
        let method = Method::read(payload).map_err(|fault| unread(&fault, payload))?;
        if self.phase != Phase::Running {
            return self.shake_hands(method).await;
        }
        if number == 0 {
            return self.connection_method(method).await;
        }
        self.channel_method(number, method).await?;
        Ok(None)
    }

    async fn channel_method(&mut self, number: u16, method: Method<'_>) -> Result<()> {
        let fails = |exception| Failed::of(exception, &method);
        let Some(channel) = self.channels.get_mut(&number) else {
            return match method {
                Method::ChannelOpen { .. } => self.open_channel(number).map_err(fails),
                Method::ChannelCloseOk {} => Ok(()),
                _ => Err(fails(Exception::new(Code::ChannelError, "expected 'channel.open'"))),
            };
        };
        if channel.is_closing {
            return self.closing_channel(number, method).await;
        }
        if channel.assembly.is_under_way() {
            return Err(Failed { exception: channel.assembly.interrupted(), class: 60, method: 40 });
        }
        match method {
            Method::BasicPublish { exchange, routing_key, mandatory, immediate, .. } => {
                if immediate {
                    return Err(fails(Exception::not_implemented("immediate=true")));
                }
                channel.assembly.begin(exchange, routing_key.0, mandatory);
                Ok(())
            }
            Method::BasicAck { .. } | Method::BasicNack { .. } | Method::BasicReject { .. } => {
                self.settle(number, &method).map_err(fails)
            }
            _ => self.manage(number, method).await.map_err(fails),
        }
    }

    /// A channel that the server closed takes the client's word on that, and nothing else.
    async fn closing_channel(&mut self, number: u16, method: Method<'_>) -> Result<()> {
        match method {
            Method::ChannelCloseOk {} => {
                self.channels.remove(&number);
            }
            Method::ChannelClose { .. } => {
                self.channels.remove(&number);
                // After the server's own word, which may still wait for confirms.
                self.tell_in_turn(number, Method::ChannelCloseOk {}).await;
            }
            _ => {}
        }
        Ok(())
    }

    fn content_frame(&mut self, frame: &Frame, payload: &[u8]) -> Result<()> {
        let number = frame.channel;
        let fails = |exception| Failed { exception, class: 60, method: 40 };
        let len_max = self.server.options.message_len_max;
        let Some(channel) = self.channels.get_mut(&number) else {
            return Err(of_frame(Assembly::default().interrupted()));
        };
        if channel.is_closing {
            return Ok(());
        }
        if !channel.assembly.is_under_way() {
            return Err(of_frame(channel.assembly.interrupted()));
        }
        // Taken out while the message is published: nothing else of the channel is needed meanwhile.
        let mut assembly = std::mem::take(&mut channel.assembly);
        let whole = match frame.kind {
            FrameKind::Header => match ContentHeader::read(payload) {
                Ok(header) => assembly.header(&header, len_max).map(|is_whole| is_whole.then_some(&[][..])),
                Err(error) => Err(Exception::new(Code::SyntaxError, error.to_string())),
            }
            .map(|body| body.map(|body| assembly.whole(body))),
            _ => assembly.body(payload),
        };
        let published = match whole {
            Ok(Some(message)) => self.publish(number, &message),
            Ok(None) => Ok(()),
            Err(exception) => Err(exception),
        };
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.assembly = assembly;
        }
        published.map_err(fails)?;
        self.note_held(number);
        Ok(())
    }

    /// Stores what was published and settles what was settled; confirms follow on their own.
    pub(crate) async fn work_off(&mut self) -> Result<()> {
        let stored = self.store().await;
        if stored.is_err() {
            // What is done with may have been what was published.
            self.settling.turn_back();
        }
        let broker = self.server.broker.clone();
        let settled = self.settling.make(&broker).await.map(drop).map_err(internal);
        stored.and(settled)
    }

    async fn store(&mut self) -> Result<()> {
        if !self.intake.is_empty()
            && let Some(vhost) = self.vhost.clone()
        {
            let mut batches = self.intake.take();
            let mut kept = loop {
                match batches.publish(&vhost, &[]) {
                    Ok(kept) => break kept,
                    Err(error) => self.wait_for_room(error, batches.volatile_len()).await?,
                }
            };
            if !kept.letters.is_empty() {
                kept.answer.wait = kept.answer.wait.max(self.store_letters(&kept).await?);
            }
            self.answer(kept.answer).await;
        }
        Ok(())
    }

    /// Stores dead letters of what was refused: the refusal is told when they are durable.
    async fn store_letters(&mut self, kept: &Kept) -> Result<Seq> {
        loop {
            match self.server.broker.publish(PublishUnit::of(kept.letters())) {
                Ok(published) => return Ok(published.wait),
                Err(error) => self.wait_for_room(error, kept.len()).await?,
            }
        }
    }

    /// What was published is answered when it is durable.
    async fn answer(&mut self, answer: Answer) {
        self.staged = self.staged.max(answer.wait);
        if !answer.frames.is_empty() {
            self.flush();
            // Nobody is told once the connection ends.
            let _gone = self.answers.send(answer).await;
        }
    }

    /// Everything that was published before is readable, and everything settled is.
    async fn catch_up(&mut self) -> std::result::Result<(), Exception> {
        self.work_off().await.map_err(|failed| failed.exception)?;
        Ok(self.server.broker.durable(self.staged).await?)
    }

    /// What is answered next waits until that is durable.
    fn answer_after(&mut self, seq: Seq) {
        self.out_wait = self.out_wait.max(seq);
    }

    /// Waits until what an answer says is durable.
    async fn durable(&mut self, seq: Seq) -> std::result::Result<(), Exception> {
        Ok(self.server.broker.durable(seq).await?)
    }

    fn vhost(&self) -> std::result::Result<Arc<Vhost>, Exception> {
        self.vhost.clone().ok_or_else(|| Exception::not_allowed("no virtual host is open"))
    }
}

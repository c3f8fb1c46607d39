//! `DIRECT.GET`: messages as they are, their places in headers: one, a batch, or the last ones of many subjects.

use model::Offset;
use serde::Deserialize;

use super::{
    Answer,
    message::{self, Found},
};
use crate::{
    core::subject,
    jetstream::{
        account::{Account, Bound},
        error::ApiError,
        headers::{self, VERSION_LINE},
        time,
    },
    server::Server,
};

/// Subjects of one request for last messages.
const LASTS_MAX: usize = 1_024;

/// Bytes of one batch, whatever is asked for: the rest is said to be pending.
const BATCH_LEN_MAX: usize = 8 << 20;

/// What is asked for. A field that is not known is passed over here, as it is by the original.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    seq: u64,
    last_by_subj: String,
    next_by_subj: String,
    start_time: Option<String>,
    batch: usize,
    max_bytes: usize,
    multi_last: Vec<String>,
    up_to_seq: u64,
    up_to_time: Option<String>,
    no_hdr: bool,
}

/// Why there are no messages: the status that says so.
type Status = &'static str;

const NOT_FOUND: Status = "404 Message Not Found";
const NO_RESULTS: Status = "404 No Results";
const BAD_REQUEST: Status = "408 Bad Request";
const MALFORMED: Status = "408 Malformed Request";
const EMPTY: Status = "408 Empty Request";

pub(super) async fn answer(
    server: &Server,
    account: &Account,
    name: &str,
    key: Option<&str>,
    body: &[u8],
) -> Vec<Answer> {
    let asked = match key {
        Some(key) => Asked { last_by_subj: key.to_owned(), ..Asked::default() },
        None if body.is_empty() => return vec![status(EMPTY)],
        None => match serde_json::from_slice::<Asked>(body) {
            Ok(asked) => asked,
            Err(_) => return vec![status(MALFORMED)],
        },
    };
    let Some(bound) = account.stream(name) else { return vec![status(NOT_FOUND)] };
    bound.shed(&server.broker);
    let get = Get { server, bound: &bound, asked: &asked };
    let answered = if !asked.multi_last.is_empty() {
        get.lasts().await
    } else if asked.batch > 0 {
        get.batch().await
    } else {
        get.one().await
    };
    answered.unwrap_or_else(|why| vec![status(why)])
}

/// One request.
struct Get<'a> {
    server: &'a Server,
    bound: &'a Bound,
    asked: &'a Asked,
}

fn failed(_: ApiError) -> Status {
    "500 Internal Server Error"
}

impl Get<'_> {
    /// Where reading begins, by sequence or by time.
    async fn start(&self) -> std::result::Result<Option<Offset>, Status> {
        let Some(text) = &self.asked.start_time else {
            return Ok(Some(Offset(self.asked.seq.saturating_sub(1))));
        };
        if self.asked.seq > 0 {
            return Err(BAD_REQUEST);
        }
        self.at_time(text).await
    }

    async fn at_time(&self, text: &str) -> std::result::Result<Option<Offset>, Status> {
        let at_ms = time::parse(text).ok_or(MALFORMED)?;
        let found = self.server.broker.search_time(&self.bound.partition, at_ms).await;
        Ok(found.map_err(|error| failed(ApiError::of(&error)))?.map(|(offset, _)| offset))
    }

    async fn one(&self) -> std::result::Result<Vec<Answer>, Status> {
        let asked = self.asked;
        let (has_last, has_next) = (!asked.last_by_subj.is_empty(), !asked.next_by_subj.is_empty());
        let has_start = asked.seq > 0 || asked.start_time.is_some();
        if !has_last && !has_next && !has_start {
            return Err(EMPTY);
        }
        if has_last && (has_next || has_start) {
            return Err(BAD_REQUEST);
        }
        let partition = &self.bound.partition;
        let end = partition.bounds().end;
        let offset = if has_last {
            let pattern = subject::pattern(asked.last_by_subj.as_bytes()).ok_or(BAD_REQUEST)?;
            partition.last_under(&pattern, end)
        } else {
            let start = self.start().await?.ok_or(NOT_FOUND)?;
            if has_next {
                let pattern = subject::pattern(asked.next_by_subj.as_bytes()).ok_or(BAD_REQUEST)?;
                partition.next_under(&pattern, start)
            } else {
                Some(start)
            }
        };
        let offset = offset.ok_or(NOT_FOUND)?;
        let found = message::at(self.server, self.bound, offset).await.map_err(failed)?.ok_or(NOT_FOUND)?;
        Ok(vec![self.message(&found, &[])])
    }

    async fn batch(&self) -> std::result::Result<Vec<Answer>, Status> {
        let asked = self.asked;
        let (has_next, has_start) =
            (!asked.next_by_subj.is_empty(), asked.seq > 0 || asked.start_time.is_some());
        if !asked.last_by_subj.is_empty() {
            return Err(BAD_REQUEST);
        }
        if !has_next && !has_start {
            return Err(EMPTY);
        }
        let text = if has_next { asked.next_by_subj.as_str() } else { ">" };
        let pattern = subject::pattern(text.as_bytes()).ok_or(BAD_REQUEST)?;
        let partition = &self.bound.partition;
        let start = self.start().await?.ok_or(NOT_FOUND)?;
        let end = partition.bounds().end;
        let pending =
            partition.count_under(&pattern, start).saturating_sub(partition.count_under(&pattern, end));
        let offsets = partition.offsets_under(&pattern, start, end, asked.batch.min(LASTS_MAX));
        self.several(offsets, pending, None).await
    }

    async fn lasts(&self) -> std::result::Result<Vec<Answer>, Status> {
        let (asked, partition) = (self.asked, &self.bound.partition);
        if asked.up_to_seq > 0 && asked.up_to_time.is_some() {
            return Err(BAD_REQUEST);
        }
        let mut end = partition.bounds().end;
        if asked.up_to_seq > 0 {
            end = end.min(Offset(asked.up_to_seq));
        }
        if let Some(text) = &asked.up_to_time {
            end = self.at_time(text).await?.map_or(end, |after| after.min(end));
        }
        let mut offsets = Vec::new();
        for text in &asked.multi_last {
            // A subject that is none has no messages.
            let Some(pattern) = subject::pattern(text.as_bytes()) else { continue };
            offsets.extend(partition.lasts_under(&pattern, end, LASTS_MAX + 1));
            offsets.sort_unstable();
            offsets.dedup();
            if offsets.len() > LASTS_MAX {
                return Err("413 Too Many Results");
            }
        }
        let pending = offsets.len() as u64;
        if asked.batch > 0 {
            offsets.truncate(asked.batch);
        }
        if offsets.is_empty() {
            return Err(NO_RESULTS);
        }
        self.several(offsets, pending, Some(end.0)).await
    }

    /// Messages of which `pending` are left with the first, and what ends them.
    async fn several(
        &self,
        offsets: Vec<Offset>,
        mut pending: u64,
        up_to: Option<u64>,
    ) -> std::result::Result<Vec<Answer>, Status> {
        let len_max = match self.asked.max_bytes {
            0 => BATCH_LEN_MAX,
            asked => asked.min(BATCH_LEN_MAX),
        };
        let (mut answers, mut last, mut len) = (Vec::new(), 0, 0);
        for offset in offsets {
            let Some(found) = message::at(self.server, self.bound, offset).await.map_err(failed)? else {
                continue;
            };
            len += found.subject.len() + found.headers.len() + found.body.len();
            if len > len_max && !answers.is_empty() {
                break;
            }
            pending = pending.saturating_sub(1);
            let (left, before) = (pending.to_string(), last.to_string());
            let more: [(&[u8], &[u8]); 2] =
                [(b"Nats-Num-Pending", left.as_bytes()), (b"Nats-Last-Sequence", before.as_bytes())];
            answers.push(self.message(&found, &more));
            last = found.seq;
        }
        if answers.is_empty() {
            return Err(NOT_FOUND);
        }
        let mut end =
            format!("NATS/1.0 204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}\r\n");
        if let Some(up_to) = up_to {
            end += &format!("Nats-UpTo-Sequence: {up_to}\r\n");
        }
        end += "\r\n";
        answers.push(Answer { headers: end.into_bytes(), body: Vec::new() });
        Ok(answers)
    }

    fn message(&self, found: &Found, more: &[(&[u8], &[u8])]) -> Answer {
        if self.asked.no_hdr {
            return Answer { headers: Vec::new(), body: found.body.clone() };
        }
        let (seq, at) = (found.seq.to_string(), time::text(found.at_ms));
        let place: [(&[u8], &[u8]); 4] = [
            (b"Nats-Stream", self.bound.name().as_bytes()),
            (b"Nats-Subject", &found.subject),
            (b"Nats-Sequence", seq.as_bytes()),
            (b"Nats-Time-Stamp", at.as_bytes()),
        ];
        let place = headers::block(place.into_iter().chain(more.iter().copied()));
        // The message's own lines stay as they were sent, and the place follows.
        let headers = match found.headers.strip_suffix(b"\r\n") {
            Some(lines) => [lines, place.strip_prefix(VERSION_LINE).unwrap_or_default()].concat(),
            None => place,
        };
        Answer { headers, body: found.body.clone() }
    }
}

fn status(text: &str) -> Answer {
    Answer { headers: format!("NATS/1.0 {text}\r\n\r\n").into_bytes(), body: Vec::new() }
}

//! Replays what an earlier incarnation left, and tells a torn tail from damage.
//!
//! Frames form a chain: each names its number and its predecessor's checksum, and says which frame was durable when it
//! was written. The chain is followed from the newest file that reaches back to the wanted position. Where it ends,
//! either a later file goes on with exactly the frame that is due, or somewhere behind lies a frame which proves that
//! the due one was durable (damage), or nothing does (the end, perhaps with a torn frame that is cut).

use std::io::IoSlice;

use bytes::Bytes;
use env::Env;
use model::{Error, LogId, Result, Seq};

use super::{
    Lost, Place, Replay, Replayed, RunBatchPlace, codec,
    file_wal::WalOptions,
    files::{Inherited, WalFile, file_name},
    frame::{FRAME_HEADER_LEN, FrameHeader, PAGE_LEN},
    scan::{Found, Opened},
    writer::Chain,
};
use crate::{
    entry::{Change, Entry},
    faults::Fault,
    fsio::io_error,
};

/// Logs that a report of damage names at most.
const LOGS_NAMED_MAX: usize = 64;
/// Bytes of a damaged frame that are looked at for the logs it names.
const LOGS_LOOK_LEN: u64 = 1 << 20;

/// Frames and units that a missing file may have held, generously.
const UNKNOWN_LOSS: u64 = 1 << 32;

/// What recovery found out.
pub(super) struct Recovered {
    pub(super) replayed: Replayed,
    pub(super) chain: Chain,
    pub(super) inherited: Inherited,
}

/// Replays everything after `from` into `sink` and cuts a torn tail. Changes nothing else.
pub(super) fn recover(
    env: &Env,
    options: &WalOptions,
    from: Seq,
    sink: &mut dyn Replay,
) -> Result<Recovered> {
    let mut found = Found::list(env, options)?;
    let reaches_back = found.open_from(env, from)?;
    let mut files = std::mem::take(&mut found.opened);
    let due = match files.first_mut() {
        Some(first) if reaches_back => first.frame_header(PAGE_LEN)?,
        _ => None,
    };
    let due = match due {
        Some((header, _)) => Due { number: header.number, prev_crc: None, seq: header.first },
        // Right where the log begins; anything else that is found proves that frames are missing.
        None => Due { number: 1, prev_crc: Some(0), seq: Seq(from.0 + 1) },
    };
    let ends = vec![None; files.len()];
    let mut walk = Walk { options, files, from, sink, reaches_back, due, ends, torn: None, lost: Vec::new() };
    walk.run()?;
    walk.finish(found)
}

/// The frame that is due. The checksum of its predecessor is unknown where a replay begins.
#[derive(Clone, Copy)]
struct Due {
    number: u64,
    prev_crc: Option<u32>,
    seq: Seq,
}

impl Due {
    fn after(header: &FrameHeader, crc: u32) -> Self {
        Due { number: header.number.saturating_add(1), prev_crc: Some(crc), seq: header.next_seq() }
    }

    fn is(&self, header: &FrameHeader) -> bool {
        header.number == self.number
            && header.first == self.seq
            && self.prev_crc.is_none_or(|crc| crc == header.prev_crc)
    }
}

/// What lies behind the end of a file's part of the chain.
enum Behind {
    /// The due frame, at the front of this file.
    Next(usize),
    /// A frame which proves that the due one was durable, or that it is out of its place.
    Proof(Sighting),
    /// Nothing that was ever acknowledged.
    Nothing,
}

/// A frame seen behind damage.
#[derive(Clone, Copy)]
struct Sighting {
    file: usize,
    at: u64,
    header: FrameHeader,
    crc: u32,
}

/// Follows the chain.
struct Walk<'a> {
    options: &'a WalOptions,
    files: Vec<Opened>,
    from: Seq,
    sink: &'a mut dyn Replay,
    /// Whether the first file begins with the wanted unit or before it.
    reaches_back: bool,
    due: Due,
    /// Per file: where its frames end, and its last unit. `None` for those that the chain did not touch.
    ends: Vec<Option<(u64, Seq)>>,
    torn: Option<(Place, u64)>,
    lost: Vec<Lost>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let (mut file, mut at) = (0, PAGE_LEN);
        while file < self.files.len() {
            if let Some(frame_len) = self.frame(file, at)? {
                at += frame_len;
                continue;
            }
            match self.behind(file, at)? {
                Behind::Next(next) => (file, at) = (next, PAGE_LEN),
                Behind::Proof(proof) => match self.damaged(file, at, proof)? {
                    Some(intact) => (file, at) = (intact.file, intact.at),
                    None => return Ok(()),
                },
                Behind::Nothing => {
                    self.check_end(file, at)?;
                    return self.cut(file, at);
                }
            }
        }
        Ok(())
    }

    /// Replays the due frame at `at` and answers its length; `None` when it is not there, or not whole.
    fn frame(&mut self, file: usize, at: u64) -> Result<Option<u64>> {
        let opened = &mut self.files[file];
        let Some((header, crc)) = opened.frame_header(at)? else { return Ok(None) };
        if !self.due.is(&header) {
            return Ok(None);
        }
        let Some(body) = opened.body(at, &header)? else { return Ok(None) };
        if header.next_seq().0 > self.from.0 + 1 {
            deliver(&header, &body, opened.place(at), self.from, self.sink)?;
        }
        self.due = Due::after(&header, crc);
        self.ends[file] = Some((at + header.padded_len(), self.last()));
        Ok(Some(header.padded_len()))
    }

    /// The last unit found.
    fn last(&self) -> Seq {
        Seq(self.due.seq.0.saturating_sub(1))
    }

    /// Looks behind `at` in `file` for how the log goes on.
    fn behind(&mut self, file: usize, at: u64) -> Result<Behind> {
        let due = self.due;
        for next in file + 1..self.files.len() {
            if let Some((header, _)) = self.files[next].frame_header(PAGE_LEN)?
                && due.is(&header)
            {
                return Ok(Behind::Next(next));
            }
        }
        if self.options.faults.has(Fault::CutMidLog) {
            return Ok(Behind::Nothing);
        }
        // A later one in the place of the due one: the files before it are gone.
        if let Some(late) = self.late_begin(file, at)?
            && late.header.durable >= due.number
        {
            return Ok(Behind::Proof(late));
        }
        // The due frame itself has one place, where it is not: a write went astray, and took one from its place before.
        let proves =
            |header: &FrameHeader| header.durable >= due.number || due.prev_crc.is_some() && due.is(header);
        let proof = self.scan(file, at + PAGE_LEN, |_, _, header| Ok(proves(header)))?;
        Ok(proof.map_or(Behind::Nothing, Behind::Proof))
    }

    /// The frame at `at` in `file`, where the log as it was found begins behind the wanted unit.
    fn late_begin(&mut self, file: usize, at: u64) -> Result<Option<Sighting>> {
        if self.reaches_back || file > 0 || at != PAGE_LEN {
            return Ok(None);
        }
        let found = self.files[file].frame_header(at)?;
        let found = found.filter(|(header, _)| header.number > self.due.number);
        Ok(found.map(|(header, crc)| Sighting { file, at, header, crc }))
    }

    /// The first frame at or behind `at` in `file`, or in a later one, that is not older than the due one and that
    /// `wanted` takes.
    fn scan(
        &mut self,
        file: usize,
        mut at: u64,
        wanted: impl Fn(&mut Opened, u64, &FrameHeader) -> Result<bool>,
    ) -> Result<Option<Sighting>> {
        for (index, opened) in self.files.iter_mut().enumerate().skip(file) {
            while at < opened.len {
                if let Some((header, crc)) = opened.frame_header(at)?
                    && header.number >= self.due.number
                    && wanted(opened, at, &header)?
                {
                    return Ok(Some(Sighting { file: index, at, header, crc }));
                }
                at += PAGE_LEN;
            }
            at = PAGE_LEN;
        }
        Ok(None)
    }

    /// The due frame, at `at` in `file`, was durable and is not there any more. Refuses, or goes on behind the damage
    /// with the frame that is answered.
    fn damaged(&mut self, file: usize, at: u64, proof: Sighting) -> Result<Option<Sighting>> {
        let first = self.due.seq;
        let begins_late = self.late_begin(file, at)?.is_some();
        let blamed = match begins_late && self.files[file].header.is_some() {
            true => Err(self.files[file].number.saturating_sub(1)),
            false => self.blamed(file, at, proof),
        };
        let (place, path, logs) = match blamed {
            Ok((file, at)) => {
                let logs = self.logs_in(file, at, proof)?;
                (self.files[file].place(at), self.files[file].path.clone(), logs)
            }
            Err(missing) => {
                let path = self.options.dir.join(file_name(missing));
                (Place { file: missing, at: 0 }, path, Vec::new())
            }
        };
        if !self.options.tolerate_damage {
            let proved = self.files[proof.file].place(proof.at);
            return Err(Error::corrupt(format!(
                "{} is damaged at position {}: unit {} was durable there, as file {} proves at position {}; logs \
                 concerned: {}; `wiremill repair` serves the rest and reports what is lost",
                path.display(),
                place.at,
                first.0,
                proved.file,
                proved.at,
                names(&logs),
            )));
        }
        let behind = if begins_late { at } else { at + PAGE_LEN };
        let intact = self.scan(file, behind, |opened, at, header| Ok(opened.body(at, header)?.is_some()))?;
        self.due = match intact {
            Some(intact) => Due { number: intact.header.number, prev_crc: None, seq: intact.header.first },
            None => Due::after(&proof.header, proof.crc),
        };
        self.ends[file] = Some((self.files[file].len, self.last()));
        self.sink.lost();
        if !self.options.faults.has(Fault::RepairSilent) {
            self.lost.push(Lost { place, first, last: self.last(), logs });
        }
        Ok(intact)
    }

    /// Where the due frame must have been, when it is not at `at` in `file` where the chain ends: there, at the front of
    /// the next file if that holds frames but not from its front on, or in a file that is missing (its number).
    fn blamed(&self, file: usize, at: u64, proof: Sighting) -> Result<(usize, u64), u64> {
        let next = self.files[file].number + 1;
        match self.files.get(file + 1) {
            Some(opened) if opened.number > next => Err(next),
            Some(_) if proof.file > file + 1 || proof.file == file + 1 && proof.at > PAGE_LEN => {
                Ok((file + 1, PAGE_LEN))
            }
            _ => Ok((file, at)),
        }
    }

    /// Looks for signs that the log once went on behind its end. A frame of which the device cannot give a page may have been
    /// durable: nothing that was written torn is like that. A file is never shorter than it was made while the log
    /// ends in it, and one is made only after the one before it was taken into use, without gaps in the numbers: where
    /// something is missing, it may have held anything.
    fn check_end(&mut self, file: usize, at: u64) -> Result<()> {
        let begun = self.begun(file, at)?;
        let opened = &self.files[file];
        let frame_len = begun.map_or(PAGE_LEN, |header| header.padded_len());
        let unreadable = opened.unreadable.range(at..at.saturating_add(frame_len)).next();
        let next = self.files.get(file + 1);
        let gap = next.is_some_and(|next| next.number > opened.number + 1);
        // Where no frame was begun here, the due one may be the first of the next file.
        let is_first_unreadable =
            |next: &&Opened| begun.is_none() && !gap && next.unreadable.contains(&PAGE_LEN);
        let is_short =
            |opened: &&Opened| opened.header.is_some_and(|header| opened.len < header.allocated_len);
        let (place, what) = if let Some(page_at) = unreadable {
            (opened.place(at), format!("{} cannot be read at position {page_at}", opened.path.display()))
        } else if let Some(next) = next.filter(is_first_unreadable) {
            (next.place(PAGE_LEN), format!("{} cannot be read at position {PAGE_LEN}", next.path.display()))
        } else if let Some(short) = self.files[file..].iter().find(is_short) {
            let at = if short.number == opened.number { at } else { PAGE_LEN };
            (short.place(at), format!("{} is cut off at position {at}", short.path.display()))
        } else if gap {
            (Place { file: opened.number + 1, at: 0 }, format!("{} is missing", file_name(opened.number + 1)))
        } else {
            return Ok(());
        };
        if !self.options.tolerate_damage {
            return Err(Error::corrupt(format!("{what}; `wiremill repair` serves the rest")));
        }
        self.lost.push(Lost { place, first: self.due.seq, last: self.last(), logs: Vec::new() });
        // How much is missing nobody knows: what comes next stays clear of it.
        self.due = Due {
            number: self.due.number + UNKNOWN_LOSS,
            prev_crc: None,
            seq: Seq(self.due.seq.0 + UNKNOWN_LOSS),
        };
        Ok(())
    }

    /// The logs that a damaged frame still names.
    fn logs_in(&mut self, file: usize, at: u64, proof: Sighting) -> Result<Vec<LogId>> {
        let opened = &mut self.files[file];
        let end = if proof.file == file { proof.at } else { opened.len };
        let begin = at + FRAME_HEADER_LEN as u64;
        let bytes = opened.bytes(begin, end.saturating_sub(begin).min(LOGS_LOOK_LEN))?.unwrap_or_default();
        let mut logs = Vec::new();
        let mut rest = &bytes[..];
        while logs.len() < LOGS_NAMED_MAX
            && let Ok(run) = codec::decode_run_header(rest)
            && run.entries_len > 0
        {
            logs.push(run.log);
            rest = &rest[run.len + run.entries_len..];
        }
        logs.sort_unstable();
        logs.dedup();
        Ok(logs)
    }

    /// The header of the frame that was being written at `at` in `file` or after it, if one was.
    fn begun(&mut self, file: usize, at: u64) -> Result<Option<FrameHeader>> {
        let header = self.files[file].frame_header(at)?.map(|(header, _)| header);
        Ok(header.filter(|header| header.number >= self.due.number))
    }

    /// The log ends at `at` in `file`. A frame that was being written there when the power went is taken out, so that
    /// no later recovery meets it.
    fn cut(&mut self, file: usize, at: u64) -> Result<()> {
        let begun = self.begun(file, at)?;
        let opened = &mut self.files[file];
        let len = match begun {
            Some(header) => header.padded_len(),
            None => opened.len_of_remains(at, self.options.commit_len as u64)?,
        };
        if len == 0 {
            return Ok(());
        }
        self.torn = Some((opened.place(at), len));
        tracing::warn!(path = %opened.path.display(), at, len, "cut a torn frame off the write-ahead log");
        if begun.is_some() {
            let zeros = [0; PAGE_LEN as usize];
            let written =
                opened.handle.write_all_at(&[IoSlice::new(&zeros)], at).and_then(|()| opened.handle.sync());
            written.map_err(|e| io_error(&opened.path, e))?;
        }
        Ok(())
    }

    /// Judges the end of the log, and sorts its files.
    fn finish(mut self, found: Found) -> Result<Recovered> {
        let seen = self.ends.iter().any(Option::is_some);
        let missing = self.last() < self.from || (!seen && self.from > Seq(0));
        if missing && !self.options.tolerate_damage {
            return Err(Error::corrupt(format!(
                "{}: the write-ahead log ends at unit {}, but unit {} was durable; `wiremill repair` serves the rest",
                self.options.dir.display(),
                if seen { self.last().0 } else { 0 },
                self.from.0
            )));
        }
        if missing {
            let place = self.files.last().map_or(Place { file: 0, at: 0 }, |file| file.place(0));
            self.lost.push(Lost { place, first: self.due.seq, last: self.from, logs: Vec::new() });
            self.due.seq = Seq(self.from.0 + 1);
        }
        let last = self.last();
        let chain =
            Chain { number: self.due.number, next: self.due.seq, prev_crc: self.due.prev_crc.unwrap_or(0) };
        let inherited = self.inherit(found);
        Ok(Recovered { replayed: Replayed { last, torn: self.torn, lost: self.lost }, chain, inherited })
    }

    fn inherit(&mut self, found: Found) -> Inherited {
        let mut inherited = Inherited { recycle: found.spares, ..Inherited::default() };
        for (number, path, len) in found.older {
            inherited.last_number = number;
            inherited.files.push(WalFile::found(number, path, len, None, self.from));
        }
        for (file, end) in self.files.drain(..).zip(&self.ends) {
            match end {
                Some((len, last)) => {
                    inherited.last_number = file.number;
                    inherited.files.push(WalFile::found(file.number, file.path, file.len, Some(*len), *last));
                }
                // Prepared and never used: its number is given out again.
                None if file.header.is_some() && self.lost.is_empty() => inherited.unused.push(file.path),
                None => {
                    tracing::warn!(path = %file.path.display(), "left a log file alone that holds no frame of the log");
                    inherited.last_number = file.number;
                }
            }
        }
        inherited
    }
}

fn names(logs: &[LogId]) -> String {
    match logs {
        [] => "unknown".to_owned(),
        logs => logs.iter().map(LogId::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// One entry of a frame, with what puts it back where it was submitted.
struct Placed {
    unit: u32,
    index: u32,
    entry: Entry,
    place: RunBatchPlace,
}

/// Hands the units of a frame after `from` to `sink`, in order.
fn deliver(header: &FrameHeader, body: &Bytes, frame: Place, from: Seq, sink: &mut dyn Replay) -> Result<()> {
    let mut entries = placed(header, body, frame)?;
    entries.sort_by_key(|placed| (placed.unit, placed.index));
    let mut entries = entries.into_iter().peekable();
    for unit in 0..header.units {
        let (mut of_unit, mut places) = (Vec::new(), Vec::new());
        while let Some(placed) = entries.next_if(|placed| placed.unit == unit) {
            if matches!(placed.entry.change, Change::Data { .. }) {
                places.push(placed.place);
            }
            of_unit.push(placed.entry);
        }
        let seq = Seq(header.first.0 + u64::from(unit));
        if seq > from {
            sink.unit(seq, of_unit, &places)?;
        }
    }
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::corrupt(format!("{frame:?}: an entry is in no unit of its frame"))),
    }
}

fn placed(header: &FrameHeader, body: &Bytes, frame: Place) -> Result<Vec<Placed>> {
    let mut entries = Vec::new();
    let mut run_at = 0;
    while run_at < body.len() {
        let (run, decoded) = codec::decode_run(&body.slice(run_at..))?;
        let mut unit = 0u32;
        for decoded in decoded {
            unit = unit.saturating_add(decoded.order.units_since);
            let at = frame.at + (FRAME_HEADER_LEN + run_at + decoded.at) as u64;
            let len = u32::try_from(decoded.len).unwrap_or(u32::MAX);
            let place = RunBatchPlace { place: Place { file: frame.file, at }, len };
            entries.push(Placed { unit, index: decoded.order.index, entry: decoded.entry, place });
        }
        run_at += run.len + run.entries_len;
    }
    if entries.iter().any(|placed| placed.unit >= header.units) {
        return Err(Error::corrupt(format!("{frame:?}: an entry is in no unit of its frame")));
    }
    Ok(entries)
}

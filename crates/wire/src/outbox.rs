use std::{
    io::IoSlice,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::COPY_MAX;

/// Capacity that an empty buffer keeps: what a burst took goes back to the machine.
const KEPT_CAPACITY: usize = 1 << 20;

/// Bytes on their way to one peer: own ones in one buffer, long bodies by reference.
///
/// ```text
/// own bytes   |---------a---------|----b----|--c--|
/// shared                          ^ X       ^ Y        on the wire: a X b Y c
/// ```
#[derive(Debug, Default)]
pub struct Gathered {
    own: Vec<u8>,
    /// Where in `own` each shared chunk goes, in order.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
}

impl Gathered {
    /// Bytes that wait, shared chunks included.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared_len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// Copies `bytes`.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Adds `chunk` by reference, or copies it when it is small (at most [`COPY_MAX`] bytes).
    pub fn shared(&mut self, chunk: &Bytes) {
        if chunk.len() <= COPY_MAX {
            self.own.extend_from_slice(chunk);
            return;
        }
        self.shared_len += chunk.len();
        self.shared.push((self.own.len(), chunk.clone()));
    }

    /// Moves everything that `other` holds behind what is here. Costs a swap when this one is empty.
    pub fn take_from(&mut self, other: &mut Gathered) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else {
            let start = self.own.len();
            self.own.extend_from_slice(&other.own);
            self.shared.extend(other.shared.drain(..).map(|(at, chunk)| (start + at, chunk)));
            self.shared_len += other.shared_len;
        }
        other.clear();
    }

    /// Empties it. The buffer stays, unless a burst has blown it up.
    pub fn clear(&mut self) {
        self.own.clear();
        self.own.shrink_to(KEPT_CAPACITY);
        self.shared.clear();
        self.shared_len = 0;
    }

    /// The pieces from byte `written` on, in order, into `pieces`; stops when those are full. Returns how many.
    pub fn pieces<'a>(&'a self, written: usize, pieces: &mut [IoSlice<'a>]) -> usize {
        let mut cut = Cut { skip: written, pieces, count: 0 };
        let mut from = 0;
        for (at, chunk) in &self.shared {
            if !cut.add(self.own.get(from..*at).unwrap_or_default()) || !cut.add(chunk) {
                return cut.count;
            }
            from = *at;
        }
        cut.add(self.own.get(from..).unwrap_or_default());
        cut.count
    }
}

/// Lays pieces out, without their first bytes.
struct Cut<'a, 'b> {
    skip: usize,
    pieces: &'b mut [IoSlice<'a>],
    count: usize,
}

impl<'a> Cut<'a, '_> {
    /// Whether there is room for more.
    fn add(&mut self, piece: &'a [u8]) -> bool {
        let (skipped, rest) = piece.split_at(self.skip.min(piece.len()));
        self.skip -= skipped.len();
        if rest.is_empty() {
            return true;
        }
        let Some(place) = self.pieces.get_mut(self.count) else { return false };
        *place = IoSlice::new(rest);
        self.count += 1;
        true
    }
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits; so many bytes do now.
    Waiting(usize),
    /// It did not fit: the peer reads too slowly, and the outbox is closed.
    Overflow,
    /// The outbox was closed before.
    Closed,
}

/// The way out to one peer: sessions push what they gathered, its writer takes all of it at once.
///
/// Bounded: a push beyond the limit closes it. A push takes one short lock, and wakes the writer only if that sleeps.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Bytes that wait here or are being written; read without the lock.
    len: AtomicUsize,
    len_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Gathered,
    is_closed: bool,
    /// Set while the writer sleeps.
    writer: Option<Waker>,
    /// Sessions that wait for it to drain.
    drained: Vec<Waker>,
    /// Bytes that the writer took and has not written yet.
    taken_len: usize,
}

impl Outbox {
    /// An outbox in which up to `len_max` bytes may wait.
    pub fn new(len_max: usize) -> Self {
        Outbox { state: Mutex::default(), len: AtomicUsize::new(0), len_max }
    }

    /// Bytes that wait or are being written.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nothing waits or is being written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands over what was gathered; it is empty afterwards.
    pub fn push(&self, gathered: &mut Gathered) -> Pushed {
        let mut state = self.state.lock();
        if state.is_closed {
            gathered.clear();
            return Pushed::Closed;
        }
        let len = state.taken_len + state.waiting.len() + gathered.len();
        if len > self.len_max {
            gathered.clear();
            state.is_closed = true;
            state.wake_all();
            return Pushed::Overflow;
        }
        state.waiting.take_from(gathered);
        self.len.store(len, Ordering::Relaxed);
        if let Some(writer) = state.writer.take() {
            drop(state);
            writer.wake();
        }
        Pushed::Waiting(len)
    }

    /// Closes it: what waits is still written, nothing more is taken.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.wake_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// For the writer, which has written all that it took before: everything that waits, into the empty `into`. `false`
    /// once the outbox is closed and nothing waits.
    pub fn poll_take(&self, cx: &mut Context<'_>, into: &mut Gathered) -> Poll<bool> {
        let mut state = self.state.lock();
        if state.taken_len > 0 {
            state.taken_len = 0;
            state.drained.drain(..).for_each(Waker::wake);
        }
        if state.waiting.is_empty() {
            self.len.store(0, Ordering::Relaxed);
            if state.is_closed {
                return Poll::Ready(false);
            }
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        into.take_from(&mut state.waiting);
        state.taken_len = into.len();
        self.len.store(state.taken_len, Ordering::Relaxed);
        Poll::Ready(true)
    }

    /// For a session that pushed: ready once no more than `len` bytes wait, or the outbox is closed.
    pub fn poll_drained(&self, cx: &mut Context<'_>, len: usize) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_closed || state.waiting.len() + state.taken_len <= len {
            return Poll::Ready(());
        }
        if !state.drained.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.drained.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn wake_all(&mut self) {
        self.writer.take().into_iter().chain(self.drained.drain(..)).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(parts: &[&str]) -> Gathered {
        let mut gathered = Gathered::default();
        for part in parts {
            match part.strip_prefix('@') {
                Some(long) => gathered.shared(&Bytes::from(long.repeat(COPY_MAX + 1))),
                None => gathered.slice(part.as_bytes()),
            }
        }
        gathered
    }

    fn written(gathered: &Gathered, from: usize) -> Vec<u8> {
        let mut pieces = [IoSlice::new(&[]); 16];
        let count = gathered.pieces(from, &mut pieces);
        pieces[..count].iter().flat_map(|piece| piece.to_vec()).collect()
    }

    fn take(outbox: &Outbox, into: &mut Gathered) -> Poll<bool> {
        outbox.poll_take(&mut Context::from_waker(Waker::noop()), into)
    }

    #[test]
    fn pieces_come_in_order_and_from_anywhere() {
        let all = gathered(&["ab", "@x", "cd", "@y", "@z"]);
        let text = [
            "ab".to_owned(),
            "x".repeat(COPY_MAX + 1),
            "cd".to_owned(),
            "y".repeat(COPY_MAX + 1),
            "z".repeat(COPY_MAX + 1),
        ]
        .concat();
        assert_eq!(all.len(), text.len());
        for from in 0..=text.len() {
            assert_eq!(written(&all, from), &text.as_bytes()[from..], "from {from}");
        }
        let mut few = [IoSlice::new(&[]); 2];
        assert_eq!(all.pieces(1, &mut few), 2);
        assert_eq!((few[0].len(), few[1].len()), (1, COPY_MAX + 1));
    }

    #[test]
    fn what_is_gathered_twice_comes_out_one_after_the_other() {
        let mut first = gathered(&["a", "@x"]);
        let mut second = gathered(&["b", "@y", "c"]);
        first.take_from(&mut second);
        assert!(second.is_empty());
        let expected = [
            "a".to_owned(),
            "x".repeat(COPY_MAX + 1),
            "b".to_owned(),
            "y".repeat(COPY_MAX + 1),
            "c".to_owned(),
        ]
        .concat();
        assert_eq!(written(&first, 0), expected.as_bytes());
    }

    #[test]
    fn a_writer_takes_everything_and_sleeps_when_there_is_nothing() {
        let outbox = Outbox::new(100);
        let mut into = Gathered::default();
        assert_eq!(take(&outbox, &mut into), Poll::Pending);
        assert_eq!(outbox.push(&mut gathered(&["ab"])), Pushed::Waiting(2));
        assert_eq!(outbox.push(&mut gathered(&["c"])), Pushed::Waiting(3));
        assert_eq!(take(&outbox, &mut into), Poll::Ready(true));
        assert_eq!((written(&into, 0), outbox.len()), (b"abc".to_vec(), 3));
        into.clear();
        assert_eq!(take(&outbox, &mut into), Poll::Pending);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_is_being_written_counts_against_the_limit() {
        for (extra, expected) in [(3, Pushed::Waiting(9)), (4, Pushed::Waiting(10)), (5, Pushed::Overflow)] {
            let outbox = Outbox::new(10);
            let mut into = Gathered::default();
            outbox.push(&mut gathered(&["123456"]));
            assert_eq!(take(&outbox, &mut into), Poll::Ready(true));
            assert_eq!(outbox.push(&mut gathered(&["x"; 5][..extra])), expected);
            assert_eq!(outbox.is_closed(), expected == Pushed::Overflow);
        }
    }

    #[test]
    fn a_closed_outbox_lets_out_what_waits_and_takes_no_more() {
        let outbox = Outbox::new(100);
        let mut into = Gathered::default();
        outbox.push(&mut gathered(&["goodbye"]));
        outbox.close();
        assert_eq!(outbox.push(&mut gathered(&["late"])), Pushed::Closed);
        assert_eq!(take(&outbox, &mut into), Poll::Ready(true));
        assert_eq!(written(&into, 0), b"goodbye");
        into.clear();
        assert_eq!(take(&outbox, &mut into), Poll::Ready(false));
    }

    #[test]
    fn a_session_waits_until_a_slow_peer_has_read() {
        let mut cx = Context::from_waker(Waker::noop());
        let outbox = Outbox::new(100);
        let mut into = Gathered::default();
        outbox.push(&mut gathered(&["123456"]));
        assert!(outbox.poll_drained(&mut cx, 6).is_ready());
        assert!(outbox.poll_drained(&mut cx, 5).is_pending());
        assert_eq!(take(&outbox, &mut into), Poll::Ready(true));
        assert!(outbox.poll_drained(&mut cx, 5).is_pending(), "taken is not written");
        into.clear();
        assert_eq!(take(&outbox, &mut into), Poll::Pending);
        assert!(outbox.poll_drained(&mut cx, 0).is_ready());
    }
}

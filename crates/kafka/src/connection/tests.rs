use std::sync::atomic::Ordering;

use tokio::{
    io::{DuplexStream, duplex},
    time::timeout,
};

use super::*;

/// Answers each frame with its length; ends after `last`.
struct Echo {
    left: usize,
}

impl Handler for Echo {
    fn handle(&mut self, frame: Bytes) -> Step {
        self.left -= 1;
        let len = u32::try_from(frame.len()).unwrap();
        Step::Answer(vec![Bytes::copy_from_slice(&len.to_be_bytes())])
    }

    fn frame_len_max(&self) -> usize {
        1 << 20
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

fn limits(requests: &Arc<RequestBudget>) -> Limits {
    Limits {
        idle_max: Duration::from_secs(60),
        requests: requests.clone(),
        answers: AnswerBudget::new(1 << 20),
    }
}

fn serve(budget: &Arc<RequestBudget>, left: usize) -> (DuplexStream, impl Future<Output = End>) {
    let (client, server) = duplex(4 << 20);
    let limits = limits(budget);
    let serving = async move {
        let (_stop, shutdown) = watch::channel(false);
        run(server, &mut Echo { left }, limits, shutdown).await
    };
    (client, serving)
}

fn frame(len: u32) -> Vec<u8> {
    [len.to_be_bytes().to_vec(), vec![7; len as usize]].concat()
}

#[tokio::test]
async fn long_frames_wait_for_their_share_of_the_budget_and_short_ones_do_not() {
    let budget = RequestBudget::new(600_000);
    let mut held = [budget.share(), budget.share()];
    held[0].grow(500_000).await;
    held[1].grow(200_000).await;
    let (mut long, serving_long) = serve(&budget, 1);
    let (mut short, serving_short) = serve(&budget, 1);
    long.write_all(&frame(500_000)).await.unwrap();
    short.write_all(&frame(5)).await.unwrap();
    let mut serving_long = Box::pin(serving_long);
    assert!(timeout(Duration::from_millis(50), &mut serving_long).await.is_err(), "100,000 are left");
    serving_short.await;
    assert_eq!(short.read_u32().await.unwrap(), 5);
    drop(held);
    serving_long.await;
    assert_eq!(long.read_u32().await.unwrap(), 500_000);
    assert_eq!(budget.free_len(), 600_000, "given back");
}

#[tokio::test]
async fn a_frame_that_is_announced_and_not_sent_takes_nothing_from_others() {
    let budget = RequestBudget::new(1 << 20);
    let mut silent = Vec::new();
    for _ in 0..3 {
        let (mut client, serving) = serve(&budget, 1);
        client.write_all(&1_000_000u32.to_be_bytes()).await.unwrap();
        client.write_all(&[7; 1_000]).await.unwrap();
        let mut serving = Box::pin(serving);
        assert!(timeout(Duration::from_millis(20), &mut serving).await.is_err());
        silent.push((client, serving));
    }
    assert_eq!(budget.free_len(), 1 << 20);
    let (mut client, serving) = serve(&budget, 1);
    client.write_all(&frame(1_000_000)).await.unwrap();
    timeout(Duration::from_secs(20), serving).await.unwrap();
    assert_eq!(client.read_u32().await.unwrap(), 1_000_000);
}

#[tokio::test]
async fn frames_that_together_are_more_than_the_budget_arrive_one_after_another() {
    let budget = RequestBudget::new(1 << 20);
    let exchange = |len: u32| {
        let (mut client, serving) = serve(&budget, 1);
        async move {
            let asking = async {
                for part in frame(len).chunks(100_000) {
                    client.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client.read_u32().await.unwrap()
            };
            tokio::join!(serving, asking).1
        }
    };
    let all = async { tokio::join!(exchange(900_000), exchange(900_001), exchange(900_002)) };
    assert_eq!(timeout(Duration::from_secs(60), all).await.unwrap(), (900_000, 900_001, 900_002));
    assert_eq!(budget.free_len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_may_take_its_time_as_long_as_it_comes_on() {
    let budget = RequestBudget::new(1 << 20);
    let (mut client, serving) = serve(&budget, 1);
    let sending = async {
        for part in frame(1_000_000).chunks(50_000) {
            tokio::time::sleep(Duration::from_secs(30)).await;
            client.write_all(part).await.unwrap();
        }
        client.read_u32().await.unwrap()
    };
    assert_eq!(tokio::join!(serving, sending).1, 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_that_does_not_come_on_does_not_hold_its_share_for_ever() {
    let budget = RequestBudget::new(1 << 20);
    let (mut client, serving) = serve(&budget, 1);
    client.write_all(&frame(500_000)[..300_000]).await.unwrap();
    let began = Instant::now();
    let end = timeout(Duration::from_secs(200), serving).await.unwrap();
    assert!(matches!(end, End::Broken(_) | End::Idle));
    assert_eq!(began.elapsed().as_secs(), 120, "from the first look after the last byte");
    assert_eq!(budget.free_len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_that_trickles_in_ends_when_others_wait_for_what_it_holds() {
    let budget = RequestBudget::new(400_000);
    let (mut client, serving) = serve(&budget, 1);
    let began = Instant::now();
    let trickle = async {
        client.write_all(&frame(500_000)[..300_000]).await.unwrap();
        while client.write_all(b"7").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        began.elapsed().as_secs()
    };
    let waiting = async {
        tokio::time::sleep(Duration::from_secs(150)).await;
        let mut others = [budget.share(), budget.share()];
        others[0].grow(350_000).await;
        others[1].grow(350_000).await;
        began.elapsed().as_secs()
    };
    let (end, _, waited) = tokio::join!(serving, trickle, waiting);
    assert!(matches!(end, End::Broken(_)));
    assert!((150..=181).contains(&waited), "{waited}");
}

/// Waits for something with each frame, as a fetch does.
struct Waits(Arc<tokio::sync::Notify>);

impl Handler for Waits {
    fn handle(&mut self, frame: Bytes) -> Step {
        let there = self.0.clone();
        Step::Poll(Box::pin(async move {
            let answer = frame.slice(..4);
            drop(frame);
            there.notified().await;
            Ok(vec![answer])
        }))
    }

    fn frame_len_max(&self) -> usize {
        1 << 20
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_long_wait_holds_nothing_of_its_frame() {
    let budget = RequestBudget::new(1 << 20);
    let there = Arc::new(tokio::sync::Notify::new());
    let (mut client, server) = duplex(4 << 20);
    let (_stop, shutdown) = watch::channel(false);
    let (limits, mut handler) = (limits(&budget), Waits(there.clone()));
    let mut serving = Box::pin(run(server, &mut handler, limits, shutdown));
    client.write_all(&frame(500_000)).await.unwrap();
    assert!(timeout(Duration::from_millis(100), &mut serving).await.is_err());
    assert_eq!(budget.free_len(), 1 << 20);
    there.notify_one();
    let answer = async {
        let answer = client.read_u32().await.unwrap();
        drop(client);
        answer
    };
    assert_eq!(tokio::join!(serving, answer).1, 0x0707_0707);
}

#[tokio::test]
async fn the_answer_that_ends_a_connection_is_sent_before_it_ends() {
    let budget = RequestBudget::new(1);
    let (mut client, serving) = serve(&budget, 1);
    client.write_all(&[frame(3), frame(4)].concat()).await.unwrap();
    serving.await;
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, 3u32.to_be_bytes());
}

/// `connections.max.idle.ms`.
#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_for_the_idle_time_ends_and_each_word_begins_it_anew() {
    let budget = RequestBudget::new(1);
    let (mut client, serving) = serve(&budget, 9);
    let began = Instant::now();
    let talking = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(&frame(3)).await.unwrap();
            assert_eq!(client.read_u32().await.unwrap(), 3);
        }
    };
    let (end, ()) = tokio::join!(serving, talking);
    assert!(matches!(end, End::Idle));
    assert_eq!(began.elapsed().as_secs(), 3 * 50 + 60);
}

/// Answers each frame after a time that is longer than the idle time.
struct Slow;

impl Handler for Slow {
    fn handle(&mut self, frame: Bytes) -> Step {
        let answering = async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(vec![frame])
        };
        Step::Later(Box::pin(answering))
    }

    fn frame_len_max(&self) -> usize {
        1 << 20
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_an_answer_is_not_idle() {
    let budget = RequestBudget::new(1);
    let (mut client, server) = duplex(1 << 20);
    let (_stop, shutdown) = watch::channel(false);
    let limits = limits(&budget);
    let serving = async move { run(server, &mut Slow, limits, shutdown).await };
    client.write_all(&frame(4)).await.unwrap();
    let asking = async { client.read_u32().await.unwrap() };
    let (end, answer) = tokio::join!(serving, asking);
    assert!(matches!(end, End::Idle));
    assert_eq!(answer, 0x0707_0707);
}

/// A client that asks and does not read the answer, which does not fit into what lies between it and the server.
async fn unread_for(idle_secs: u64, held_by_others: usize) -> u64 {
    let requests = RequestBudget::new(1);
    let (mut client, server) = duplex(4);
    let (_stop, shutdown) = watch::channel(false);
    let limits = Limits { idle_max: Duration::from_secs(idle_secs), ..limits(&requests) };
    let mut others = limits.answers.take(1, Instant::now()).await.unwrap();
    others.settle(held_by_others);
    let began = Instant::now();
    let serving = async move { run(server, &mut Echo { left: 9 }, limits, shutdown).await };
    let asking = async {
        client.write_all(&[frame(3), frame(4)].concat()).await.unwrap();
        began.elapsed().as_secs()
    };
    let (end, _) = tokio::join!(serving, asking);
    assert!(matches!(end, End::Gone));
    began.elapsed().as_secs()
}

/// `connections.max.idle.ms` again.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_has_the_idle_time_unless_others_need_the_room() {
    assert_eq!(unread_for(600, 0).await, 600);
    assert_eq!(unread_for(20, 0).await, 20);
    assert_eq!(unread_for(600, 1 << 20).await, 60);
    assert_eq!(unread_for(20, 1 << 20).await, 20);
}

/// What the n-th frame comes to, by its first byte; counts the frames that were done.
#[derive(Default)]
struct Counts {
    there: Arc<tokio::sync::Notify>,
    done: Arc<std::sync::atomic::AtomicUsize>,
}

impl Handler for Counts {
    fn handle(&mut self, frame: Bytes) -> Step {
        let (there, done, kind) = (self.there.clone(), self.done.clone(), frame[0]);
        let waiting = async move {
            there.notified().await;
            done.fetch_add(1, Ordering::SeqCst);
            Ok(vec![frame])
        };
        match kind {
            b'b' => Step::Barrier(Box::pin(waiting)),
            b'p' => Step::Poll(Box::pin(waiting)),
            _ => {
                self.done.fetch_add(1, Ordering::SeqCst);
                Step::Silent
            }
        }
    }

    fn frame_len_max(&self) -> usize {
        1 << 20
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// Sends the frames and closes; how many were done in the end.
async fn done_after_closing(frames: &[&[u8]]) -> usize {
    let (mut client, server) = duplex(4 << 20);
    let (_stop, shutdown) = watch::channel(false);
    let (limits, mut handler) = (limits(&RequestBudget::new(1)), Counts::default());
    let (there, done) = (handler.there.clone(), handler.done.clone());
    for body in frames {
        client.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
        client.write_all(body).await.unwrap();
    }
    drop(client);
    let mut serving = Box::pin(run(server, &mut handler, limits, shutdown));
    let ended = timeout(Duration::from_millis(100), &mut serving).await;
    let end = match ended {
        Ok(end) => end,
        Err(_) => {
            there.notify_one();
            timeout(Duration::from_secs(20), serving).await.unwrap()
        }
    };
    assert!(matches!(end, End::Gone));
    done.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_the_end_of_the_process_and_what_is_to_be_done_does() {
    for (frame, waits) in [(b'p', false), (b'b', true)] {
        let (mut client, server) = duplex(4 << 20);
        let (stop, shutdown) = watch::channel(false);
        let (limits, mut handler) = (limits(&RequestBudget::new(1)), Counts::default());
        let there = handler.there.clone();
        client.write_all(&[0, 0, 0, 1, frame]).await.unwrap();
        let mut serving = Box::pin(run(server, &mut handler, limits, shutdown));
        assert!(timeout(Duration::from_millis(50), &mut serving).await.is_err());
        stop.send(true).unwrap();
        if waits {
            assert!(timeout(Duration::from_millis(50), &mut serving).await.is_err());
            there.notify_one();
        }
        let end = timeout(Duration::from_secs(20), serving).await.unwrap();
        assert!(matches!(end, End::Shutdown));
    }
}

/// A produce with acks=0 may have to wait for room: it and those behind it were received.
#[tokio::test]
async fn what_a_client_sent_before_it_closed_is_done() {
    assert_eq!(done_after_closing(&[b"b", b"s", b"s"]).await, 3);
}

#[tokio::test]
async fn a_long_poll_of_a_client_that_closed_ends_and_what_is_behind_it_is_done() {
    assert_eq!(done_after_closing(&[b"p"]).await, 0);
    assert_eq!(done_after_closing(&[b"p", b"s", b"p", b"s"]).await, 2);
}

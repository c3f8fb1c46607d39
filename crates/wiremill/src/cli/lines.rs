//! Lines of an input, in runs that are published in one request each: as long as may be, and none waits for more to come.

use std::{io::BufRead, time::Duration};

use tokio::{sync::mpsc, time::timeout};

/// Lines of one run.
const LINES_MAX: usize = 500;
/// Bytes of one run, unless one line is longer: as JSON it is still within what any request may be.
const LEN_MAX: usize = 256 << 10;
/// An input that says nothing for so long has paused.
const PAUSE: Duration = Duration::from_millis(20);

/// The runs of an input.
pub struct Lines {
    read: mpsc::Receiver<Result<String, String>>,
    /// Belongs to the next run.
    left: Option<String>,
}

/// Reads `input` on a thread of its own, which is left alone when nobody wants more.
pub fn of(input: impl BufRead + Send + 'static) -> Lines {
    let (found, read) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in input.lines() {
            let line = line.map_err(|e| format!("standard input: {e}"));
            let ended = line.is_err();
            if found.blocking_send(line).is_err() || ended {
                return;
            }
        }
    });
    Lines { read, left: None }
}

impl Lines {
    /// The next run, at least one line; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, String> {
        let first = match self.left.take() {
            Some(line) => line,
            None => match self.read.recv().await {
                Some(line) => line?,
                None => return Ok(None),
            },
        };
        let mut len = first.len();
        let mut run = vec![first];
        while run.len() < LINES_MAX {
            let Ok(Some(line)) = timeout(PAUSE, self.read.recv()).await else { break };
            let line = line?;
            len += line.len();
            if len > LEN_MAX {
                self.left = Some(line);
                break;
            }
            run.push(line);
        }
        Ok(Some(run))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read, Result, pipe};

    use super::*;

    async fn runs(text: String) -> Vec<usize> {
        let mut lines = of(Cursor::new(text));
        let mut lens = Vec::new();
        while let Some(run) = lines.next().await.unwrap() {
            lens.push(run.len());
        }
        lens
    }

    #[tokio::test]
    async fn a_run_is_bounded_by_lines_and_by_bytes() {
        assert_eq!(runs(String::new()).await, [0; 0]);
        assert_eq!(runs("x\n".repeat(1_001)).await, [500, 500, 1]);
        assert_eq!(runs(format!("{}\n", "x".repeat(100 << 10)).repeat(5)).await, [2, 2, 1]);
        assert_eq!(runs(format!("a\n{}\nb", "x".repeat(1 << 20))).await, [1, 1, 1]);
    }

    #[tokio::test]
    async fn an_input_that_pauses_holds_nothing_back() {
        let (reader, mut writer) = pipe().unwrap();
        let mut lines = of(BufReader::new(reader));
        std::io::Write::write_all(&mut writer, b"one\ntwo\n").unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(lines.next().await.unwrap().unwrap());
        }
        assert_eq!(seen, ["one", "two"]);
        drop(writer);
        assert_eq!(lines.next().await.unwrap(), None);
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _into: &mut [u8]) -> Result<usize> {
            Err(std::io::Error::other("on purpose"))
        }
    }

    #[tokio::test]
    async fn an_input_that_does_not_read_is_said() {
        let why = of(BufReader::new(Broken)).next().await.unwrap_err();
        assert_eq!(why, "standard input: on purpose");
    }
}

//! Child processes: shown while they run, remembered for counting, ended by id when their time is over.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a child ended and what it printed.
pub struct Finished {
    pub end: End,
    /// Standard output and standard error, in the order in which lines arrived.
    pub lines: Vec<String>,
}

pub enum End {
    Exited(ExitStatus),
    TimedOut(Duration),
}

impl Finished {
    pub fn succeeded(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.success())
    }

    /// Whether it was ended neither by its limit nor by a signal.
    pub fn ended_by_itself(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.code().is_some())
    }

    /// Why it did not succeed, for the closing report.
    pub fn complaint(&self) -> String {
        match self.end {
            End::Exited(status) => format!("ended with {status}"),
            End::TimedOut(limit) => format!("stopped after its limit of {} s", limit.as_secs()),
        }
    }
}

/// Whether a child's lines are shown while it runs. Those of children that run side by side are not: whoever started
/// them shows each one's at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Shown,
    Kept,
}

/// Runs `command` to its end or its limit.
///
/// The child leads a process group of its own, so that what it started and forgot ends with it.
pub fn run(mut command: Command, limit: Duration, output: Output) -> Result<Finished, String> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let _guard = Guard::over(&format!("-{}", child.id()));
    let (sender, receiver) = std::sync::mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| gather(pipe, sender.clone(), output)),
        child.stderr.take().map(|pipe| gather(pipe, sender, output)),
    ];
    let end = wait(&mut child, limit);
    signal("KILL", &format!("-{}", child.id()));
    let end = end?;
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| "a reader of a child's output panicked".to_string())?;
    }
    Ok(Finished { end, lines: receiver.into_iter().collect() })
}

fn wait(child: &mut Child, limit: Duration) -> Result<End, String> {
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|error| format!("cannot wait for a child: {error}"))? {
            Some(status) => return Ok(End::Exited(status)),
            None if started.elapsed() > limit => {
                signal("KILL", &format!("-{}", child.id()));
                child.wait().map_err(|error| format!("cannot wait for a child: {error}"))?;
                return Ok(End::TimedOut(limit));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn gather(
    pipe: impl Read + Send + 'static,
    lines: std::sync::mpsc::Sender<String>,
    output: Output,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            if output == Output::Shown {
                println!("{line}");
            }
            if lines.send(line).is_err() {
                return;
            }
        }
    })
}

/// Ends a process, or a group, when this process ends before it was let go of, however it ends: children are in groups
/// of their own, and a Ctrl-C does not reach them. A shell waits for the end of a pipe.
pub struct Guard(Option<Child>);

impl Guard {
    /// Over a process id, or over a group when `target` begins with a minus.
    pub fn over(target: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let shell = Command::new("sh")
            .args(["-c", r#"read -r word || kill -s KILL -- "$1""#, "guard", target])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(shell.inspect_err(|error| println!("cannot run sh: {error}")).ok())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(shell) = &mut self.0 else { return };
        let told = shell.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(b"over\n"));
        if let Err(error) = told.and_then(|()| shell.wait().map(drop)) {
            println!("cannot let go of a guarded child: {error}");
        }
    }
}

/// Sends a signal to a process id, or to a group when `target` begins with a minus. One that is gone
/// already is as good as signalled.
pub fn signal(name: &str, target: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), "--", target]).stderr(Stdio::null()).status();
    if let Err(error) = status {
        println!("cannot run kill: {error}");
    }
}

/// Whether a program answers to `--version` or the like.
pub fn exists(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_that_ends_well_has_its_lines_kept() {
        let finished = run(shell("echo one; echo two >&2"), Duration::from_secs(10), Output::Kept).unwrap();
        assert!(finished.succeeded());
        assert_eq!(finished.lines.len(), 2);
        assert!(finished.lines.contains(&"one".to_string()));
    }

    #[test]
    fn a_child_that_overstays_is_ended_with_everything_it_started() {
        let started = Instant::now();
        let finished = run(shell("sleep 60 & sleep 60"), Duration::from_millis(200), Output::Kept).unwrap();
        assert!(!finished.succeeded());
        assert!(finished.complaint().contains("limit"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_a_child_left_behind_does_not_hold_the_run_up() {
        let started = Instant::now();
        let finished = run(shell("sleep 60 & echo done"), Duration::from_secs(30), Output::Kept).unwrap();
        assert!(finished.succeeded());
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    /// The guard's shell cannot tell a pipe that was dropped from one whose owner is gone.
    #[test]
    fn a_child_ends_when_whoever_guards_it_is_gone() {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut guard = Guard::over(&format!("-{}", child.id()));
        drop(guard.0.as_mut().and_then(|shell| shell.stdin.take()));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_child_that_was_let_go_of_lives_on() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        drop(Guard::over(&child.id().to_string()));
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

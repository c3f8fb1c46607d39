//! The client suites: unmodified client libraries, each under its own ecosystem's test runner, all
//! against one broker.

use crate::broker::{Broker, scratch_folder};
use crate::counts::{Counts, Runner};
use crate::failing;
use crate::process::{self, Finished, Output};
use crate::report::Report;
use crate::workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What one run of a suite may take, twice what the longest takes alone; one that needs more is doing something that
/// belongs elsewhere.
const SUITE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Fetching pinned dependencies on a machine that has none of them yet.
const SETUP_LIMIT: Duration = Duration::from_secs(10 * 60);

/// One language's suite: what it needs, how its dependencies are laid, how it is run.
struct Suite {
    name: &'static str,
    /// Where it lies in `clients/`.
    folder: &'static str,
    runner: Runner,
    /// Programs that must answer for the suite to run at all.
    needs: &'static [&'static [&'static str]],
    /// Setup that needs no broker, and waits for the network for a part of its time.
    fetch: &'static [&'static [&'static str]],
    setup: &'static [&'static [&'static str]],
    /// However each ends; their counts are added up.
    runs: &'static [&'static [&'static str]],
    /// How many of them at a time. Those that mostly wait do so together.
    lanes: usize,
    /// Whether it runs beside the suite before it: both mostly wait.
    beside: bool,
}

/// How one suite ended.
struct Ran {
    counts: Counts,
    outcome: Result<(), String>,
    /// What its failed tests said.
    excerpt: Vec<String>,
    /// Whether each of its runs came to an end of its own.
    whole: bool,
}

/// How the tests that ship with a Python package are run.
macro_rules! foreign {
    ($name:literal, $($tests:literal),+) => {
        &[
            ".venv-foreign/bin/python",
            "-m",
            "pytest",
            "-v",
            "-c",
            "foreign/pytest.ini",
            "-o",
            concat!("foreign=", $name),
            $($tests),+
        ]
    };
}

const SUITES: [Suite; 6] = [
    Suite {
        name: "rust",
        folder: "rust",
        runner: Runner::Cargo,
        // librdkafka is C, and is built with make.
        needs: &[&["cargo", "--version"], &["cc", "--version"], &["make", "--version"]],
        fetch: &[
            &["cargo", "fetch", "--locked"],
            &["cargo", "fetch", "--locked", "--manifest-path", "async_nats/Cargo.toml"],
        ],
        setup: &[
            &["cargo", "fmt", "--check"],
            &["cargo", "test", "--locked", "--no-run"],
            // The tests that ship inside async-nats' package. They are formatted otherwise: only ours are looked at.
            &["rustfmt", "--check", "async_nats/src/main.rs", "async_nats/nats-server/src/lib.rs"],
            &["cargo", "run", "--locked", "--manifest-path", "async_nats/Cargo.toml", "--", "lay"],
        ],
        runs: &[
            &["cargo", "test", "--locked", "--no-fail-fast"],
            &["cargo", "run", "--locked", "--manifest-path", "async_nats/Cargo.toml", "--", "run"],
        ],
        lanes: 1,
        beside: false,
    },
    Suite {
        name: "go",
        folder: "go",
        runner: Runner::Go,
        needs: &[&["go", "version"]],
        fetch: &[
            &["go", "mod", "download"],
            // The `nats` command line, from a module of its own.
            &["go", "build", "-C", "natscli", "-o", "../.bin/nats", "github.com/nats-io/natscli/nats"],
        ],
        setup: &[&["go", "vet", "./..."]],
        runs: &[&["go", "test", "-v", "-count=1", "-parallel=12", "-timeout=7m", "./..."]],
        lanes: 1,
        beside: false,
    },
    Suite {
        name: "node",
        folder: "node",
        runner: Runner::Node,
        needs: &[&["node", "--version"], &["npm", "--version"], &["openssl", "version"]],
        fetch: &[&["npm", "ci", "--no-audit", "--no-fund"]],
        setup: &[],
        runs: &[&["npm", "test"]],
        lanes: 1,
        beside: false,
    },
    Suite {
        name: "python",
        folder: "python",
        runner: Runner::Pytest,
        needs: &[
            &["python3", "--version"],
            &["node", "--version"],
            &["npm", "--version"],
            &["go", "version"],
        ],
        fetch: &[
            &["python3", "-m", "venv", ".venv"],
            &[".venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"],
            &["python3", "-m", "venv", ".venv-query"],
            &[
                ".venv-query/bin/pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                "requirements-query.txt",
            ],
            &[".venv/bin/python", "moto_sqs/fetch.py"],
            // Some programs cross to kafkajs.
            &["npm", "--prefix", "../node", "ci", "--no-audit", "--no-fund"],
        ],
        setup: &[],
        runs: &[
            &[".venv/bin/python", "-m", "pytest", "-v"],
            // The same programs with a boto3 that speaks Query.
            &[".venv-query/bin/python", "-m", "pytest", "-v", "-c", "query.ini", "--rootdir", "."],
            &[
                ".venv/bin/python",
                "-m",
                "pytest",
                "-v",
                "-c",
                "moto_sqs/pytest.ini",
                ".moto/source/tests/test_sqs",
            ],
        ],
        lanes: 1,
        beside: false,
    },
    // The tests that ship with AMQP clients for Python, in an environment of their own.
    Suite {
        name: "python-amqp",
        folder: "python",
        runner: Runner::Pytest,
        needs: &[&["python3", "--version"], &["openssl", "version"]],
        fetch: &[
            &["python3", "-m", "venv", ".venv-foreign"],
            &[
                ".venv-foreign/bin/pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                "foreign/requirements.txt",
            ],
            &[".venv-foreign/bin/python", "foreign/fetch.py"],
        ],
        setup: &[],
        runs: &[
            foreign!("aio_pika", ".foreign/aio_pika/tests/test_amqp_robust.py"),
            foreign!(
                "aio_pika",
                ".foreign/aio_pika/tests/test_amqp.py",
                ".foreign/aio_pika/tests/test_amqps.py"
            ),
            foreign!("aio_pika", ".foreign/aio_pika/tests/test_amqp_robust_proxy.py"),
            foreign!("aio_pika", ".foreign/aio_pika/tests", "--ignore-glob=*/test_amqp*"),
            foreign!("kombu", ".foreign/kombu/t/integration/test_py_amqp.py"),
            foreign!("amqp", ".foreign/amqp/t/integration"),
        ],
        // Most of them sleep most of their time.
        lanes: 3,
        beside: true,
    },
    Suite {
        name: "java",
        folder: "java",
        runner: Runner::Maven,
        needs: &[&["java", "-version"], &["mvn", "--version"]],
        fetch: &[&["mvn", "-q", "-B", "test-compile"]],
        setup: &[],
        runs: &[&["mvn", "-B", "test"]],
        lanes: 1,
        beside: false,
    },
];

/// Names of all suites, in the order in which they run.
pub fn names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

/// What [`fetch`] came to, suite by suite; one that it does not name is fetched for before it runs.
pub type Fetched = BTreeMap<&'static str, Result<(), String>>;

/// Fetches what the suites in `wanted` depend on, one after another: much of it waits for the network, and may do so while
/// something else keeps the processors busy. A suite that cannot run here is left out.
pub fn fetch(wanted: &[&str]) -> Fetched {
    let there = SUITES.iter().filter(|suite| wanted.contains(&suite.name) && suite.missing().is_none());
    there.map(|suite| (suite.name, suite.prepare(suite.fetch, Output::Kept))).collect()
}

/// What the suites left behind.
pub struct Results {
    /// Where they appended their result lines.
    pub folder: PathBuf,
    /// Those that ran to their end, whether or not a test failed.
    pub whole: BTreeSet<&'static str>,
}

/// What is asked of [`run`].
#[derive(Default)]
pub struct Wanted<'a> {
    /// The suites.
    pub names: &'a [&'a str],
    /// What has been fetched for them already.
    pub fetched: Fetched,
    /// For their environment, beside where the broker is.
    pub variables: &'a [(&'static str, &'static str)],
}

/// Runs the suites that are `wanted` against a broker started from `binary`.
pub fn run(
    report: &mut Report,
    binary: &Path,
    wanted: &Wanted<'_>,
    must_run: bool,
) -> Result<Results, String> {
    let folder = scratch_folder("results")?;
    let broker = Broker::start(binary)?;
    let mut environment = vec![
        ("WIREMILL_KAFKA", broker.address("kafka")?.to_string()),
        ("WIREMILL_AMQP", broker.address("amqp")?.to_string()),
        ("WIREMILL_AWS", broker.address("aws")?.to_string()),
        ("WIREMILL_NATS", broker.address("nats")?.to_string()),
        ("WIREMILL_ADMIN", format!("http://{}", broker.address("admin")?)),
        ("WIREMILL_BIN", binary.display().to_string()),
        ("WIREMILL_RESULTS", folder.display().to_string()),
    ];
    environment.extend(temporary_folder()?.map(|path| ("TMPDIR", path)));
    environment.extend(wanted.variables.iter().map(|(name, value)| (*name, value.to_string())));
    let mut whole = BTreeSet::new();
    for group in groups(wanted.names) {
        let names: Vec<_> = group.iter().map(|suite| suite.name).collect();
        report.step(&format!("clients in {}", names.join(" and ")), |report| {
            whole.extend(run_group(report, &group, &environment, &wanted.fetched, must_run));
        });
    }
    report.check("the broker stops in order after the suites", broker.stop());
    Ok(Results { folder, whole })
}

/// Where the suites' brokers and tools put what they throw away, so that nothing of a run that was killed stays
/// elsewhere. `None` where its path would be too long for the sockets that some of them make in it.
fn temporary_folder() -> Result<Option<String>, String> {
    /// Of the 108 bytes of a socket's address, some of these tools use nearly 50 themselves.
    const PATH_LEN_MAX: usize = 56;
    let path = scratch_folder("tmp")?.display().to_string();
    Ok(Some(path).filter(|path| path.len() <= PATH_LEN_MAX))
}

/// The suites in `wanted`, those together that run side by side.
fn groups(wanted: &[&str]) -> Vec<Vec<&'static Suite>> {
    let mut groups: Vec<Vec<&Suite>> = Vec::new();
    let mut is_before_wanted = false;
    for suite in SUITES.iter() {
        if wanted.contains(&suite.name) {
            match groups.last_mut().filter(|_| suite.beside && is_before_wanted) {
                Some(group) => group.push(suite),
                None => groups.push(vec![suite]),
            }
        }
        is_before_wanted = wanted.contains(&suite.name);
    }
    groups
}

/// Runs suites side by side and reports on each; which of them ran whole.
fn run_group(
    report: &mut Report,
    group: &[&'static Suite],
    environment: &[(&str, String)],
    fetched: &Fetched,
    must_run: bool,
) -> Vec<&'static str> {
    let title = |suite: &Suite| format!("clients in {}", suite.name);
    let mut able = Vec::new();
    for suite in group {
        match suite.missing() {
            Some(missing) => report.skip(&title(suite), &format!("{missing} is not installed"), must_run),
            None => able.push(*suite),
        }
    }
    let output = if able.len() > 1 { Output::Kept } else { Output::Shown };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let run = |suite: &'static Suite| scope.spawn(move || suite.execute(environment, fetched, output));
        let running: Vec<_> = able.iter().map(|suite| run(suite)).collect();
        let joined = running.into_iter().map(|suite| suite.join());
        joined.map(|ended| ended.unwrap_or_else(|_| Err("the suite's thread panicked".into()))).collect()
    });
    let mut whole = Vec::new();
    for (suite, ended) in able.into_iter().zip(ended) {
        match ended {
            Ok(ran) => {
                report.suite(&title(suite), ran.counts, ran.outcome);
                report.quote(&title(suite), ran.excerpt);
                whole.extend(ran.whole.then_some(suite.name));
            }
            Err(reason) => report.check(&title(suite), Err(reason)),
        }
    }
    whole
}

impl Suite {
    fn missing(&self) -> Option<&'static str> {
        self.needs
            .iter()
            .find_map(|need| {
                need.split_first().filter(|(program, arguments)| !process::exists(program, arguments))
            })
            .map(|(program, _)| *program)
    }

    fn command(&self, words: &[&str]) -> Command {
        let folder = workspace::root().join("clients").join(self.folder);
        let program = words.first().copied().unwrap_or_default();
        let local = folder.join(program);
        let mut command = if program.contains('/') { Command::new(local) } else { Command::new(program) };
        command.args(words.get(1..).unwrap_or_default()).current_dir(folder);
        command
    }

    /// Runs `commands` one after another, up to the first that fails.
    fn prepare(&self, commands: &[&[&str]], output: Output) -> Result<(), String> {
        for words in commands {
            let finished = process::run(self.command(words), SETUP_LIMIT, output)?;
            if !finished.succeeded() {
                self.show(words, &finished, output);
                return Err(format!("{}: {}", words.join(" "), finished.complaint()));
            }
        }
        Ok(())
    }

    /// Prints what a command said that ran beside others, in one piece.
    fn show(&self, words: &[&str], finished: &Finished, output: Output) {
        if output == Output::Kept {
            println!("-- {}: {}\n{}", self.name, words.join(" "), finished.lines.join("\n"));
        }
    }

    fn execute(
        &self,
        environment: &[(&str, String)],
        fetched: &Fetched,
        output: Output,
    ) -> Result<Ran, String> {
        let began = Instant::now();
        fetched.get(self.name).cloned().unwrap_or_else(|| self.prepare(self.fetch, output))?;
        self.prepare(self.setup, output)?;
        let laid_s = began.elapsed().as_secs_f64();
        let mut counts = Counts::default();
        let (mut complaints, mut excerpt, mut whole) = (Vec::new(), Vec::new(), true);
        for finished in self.run_all(environment, output) {
            let finished = finished?;
            counts += self.runner.count(&finished.lines);
            whole &= finished.ended_by_itself();
            if !finished.succeeded() {
                complaints.push(finished.complaint());
                excerpt.extend(failing::excerpt(self.runner, &finished.lines));
            }
        }
        println!("-- {}: {laid_s:.1} s of setup, {:.1} s in all", self.name, began.elapsed().as_secs_f64());
        let outcome = if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) };
        Ok(Ran { counts, outcome, excerpt, whole })
    }

    /// Each run as it ended.
    fn run_all(&self, environment: &[(&str, String)], output: Output) -> Vec<Result<Finished, String>> {
        let output = if self.lanes > 1 { Output::Kept } else { output };
        let next = AtomicUsize::new(0);
        let lane = || {
            let mut ended = Vec::new();
            while let Some(words) = self.runs.get(next.fetch_add(1, Relaxed)) {
                if output == Output::Kept {
                    println!("-- {} begins: {}", self.name, words.join(" "));
                }
                let mut command = self.command(words);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                let finished = process::run(command, SUITE_LIMIT, output);
                if let Ok(finished) = &finished {
                    self.show(words, finished, output);
                }
                ended.push(finished);
            }
            ended
        };
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..self.lanes).map(|_| scope.spawn(lane)).collect();
            let ended = lanes.into_iter().map(|lane| lane.join());
            ended
                .flat_map(|lane| lane.unwrap_or_else(|_| vec![Err("a lane of runs panicked".into())]))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[&str], expected: &[&[&str]]) {
        let groups: Vec<Vec<&str>> =
            groups(wanted).iter().map(|group| group.iter().map(|suite| suite.name).collect()).collect();
        assert_eq!(groups, expected);
    }

    #[test]
    fn suites_that_mostly_wait_run_side_by_side_where_both_are_wanted() {
        check(&names(), &[&["rust"], &["go"], &["node"], &["python", "python-amqp"], &["java"]]);
        check(&["node", "python-amqp"], &[&["node"], &["python-amqp"]]);
        check(&["java", "python"], &[&["python"], &["java"]]);
    }

    fn suite(needs: &'static [&'static [&'static str]], runs: &'static [&'static [&'static str]]) -> Suite {
        let (name, folder, runner) = ("some", ".", Runner::Cargo);
        Suite { name, folder, runner, needs, fetch: &[], setup: &[], runs, lanes: 1, beside: false }
    }

    #[test]
    fn a_suite_whose_tests_fail_ran_whole_and_one_that_was_ended_did_not() {
        let ran = |runs| suite(&[], runs).execute(&[], &Fetched::new(), Output::Kept).unwrap();
        let failed = ran(&[&["sh", "-c", "echo 'test result: FAILED. 1 passed; 1 failed'; exit 1"]]);
        assert!(failed.whole && failed.outcome.is_err());
        let ended = ran(&[&["true"], &["sh", "-c", "kill -s KILL $$"]]);
        assert!(!ended.whole && ended.outcome.is_err());
    }

    #[test]
    fn suites_side_by_side_are_counted_apart() {
        let some = |words| &*Box::leak(Box::new(suite(&[], words)));
        let good = some(&[&["echo", "test result: ok. 2 passed; 0 failed"]]);
        let bad = some(&[&["sh", "-c", "echo 'test result: FAILED. 1 passed; 1 failed'; exit 1"]]);
        let mut report = Report::default();
        let whole = run_group(&mut report, &[good, bad], &[], &Fetched::new(), true);
        assert_eq!((whole.len(), report.close()), (2, Err("3 passed, 1 failed".to_string())));
    }

    #[test]
    fn a_suite_whose_fetching_failed_does_not_run() {
        let fetched = Fetched::from([("some", Err("no network".to_string()))]);
        let ended = suite(&[], &[&["true"]]).execute(&[], &fetched, Output::Kept);
        assert!(ended.is_err_and(|reason| reason == "no network"));
    }
}

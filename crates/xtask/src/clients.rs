//! The client suites: unmodified client libraries, each under its own ecosystem's test runner, all
//! against one broker.

use crate::broker::{Broker, scratch_folder};
use crate::counts::{Counts, Runner};
use crate::failing;
use crate::process;
use crate::report::Report;
use crate::workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What one suite may take; a suite that needs more is doing something that belongs elsewhere.
const SUITE_LIMIT: Duration = Duration::from_secs(8 * 60);
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
    setup: &'static [&'static [&'static str]],
    /// However each ends; their counts are added up.
    runs: &'static [&'static [&'static str]],
    /// How many of them at a time. Those that mostly wait do so together.
    lanes: usize,
}

/// How one suite ended.
struct Ran {
    counts: Counts,
    outcome: Result<(), String>,
    /// What its failed tests said.
    excerpt: Vec<String>,
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
    },
    Suite {
        name: "go",
        folder: "go",
        runner: Runner::Go,
        needs: &[&["go", "version"]],
        setup: &[
            &["go", "mod", "download"],
            // The `nats` command line, from a module of its own.
            &["go", "build", "-C", "natscli", "-o", "../.bin/nats", "github.com/nats-io/natscli/nats"],
            &["go", "vet", "./..."],
        ],
        runs: &[&["go", "test", "-v", "-count=1", "-parallel=12", "-timeout=7m", "./..."]],
        lanes: 1,
    },
    Suite {
        name: "node",
        folder: "node",
        runner: Runner::Node,
        needs: &[&["node", "--version"], &["npm", "--version"], &["openssl", "version"]],
        setup: &[&["npm", "ci", "--no-audit", "--no-fund"]],
        runs: &[&["npm", "test"]],
        lanes: 1,
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
        setup: &[
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
    },
    // The tests that ship with AMQP clients for Python, in an environment of their own.
    Suite {
        name: "python-amqp",
        folder: "python",
        runner: Runner::Pytest,
        needs: &[&["python3", "--version"], &["openssl", "version"]],
        setup: &[
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
    },
    Suite {
        name: "java",
        folder: "java",
        runner: Runner::Maven,
        needs: &[&["java", "-version"], &["mvn", "--version"]],
        setup: &[&["mvn", "-q", "-B", "test-compile"]],
        runs: &[&["mvn", "-B", "test"]],
        lanes: 1,
    },
];

/// Names of all suites, in the order in which they run.
pub fn names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

/// Where the suites append their result lines.
pub struct Results(pub PathBuf);

/// Runs the suites in `wanted` against a broker started from `binary`.
pub fn run(report: &mut Report, binary: &Path, wanted: &[&str], must_run: bool) -> Result<Results, String> {
    let results = scratch_folder("results")?;
    let broker = Broker::start(binary)?;
    let environment = [
        ("WIREMILL_KAFKA", broker.address("kafka")?.to_string()),
        ("WIREMILL_AMQP", broker.address("amqp")?.to_string()),
        ("WIREMILL_AWS", broker.address("aws")?.to_string()),
        ("WIREMILL_NATS", broker.address("nats")?.to_string()),
        ("WIREMILL_ADMIN", format!("http://{}", broker.address("admin")?)),
        ("WIREMILL_BIN", binary.display().to_string()),
        ("WIREMILL_RESULTS", results.display().to_string()),
    ];
    for suite in SUITES.iter().filter(|suite| wanted.contains(&suite.name)) {
        let name = format!("clients in {}", suite.name);
        if let Some(missing) = suite.missing() {
            report.skip(&name, &format!("{missing} is not installed"), must_run);
            continue;
        }
        report.step(&name, |report| match suite.execute(&environment) {
            Ok(ran) => {
                report.suite(&name, ran.counts, ran.outcome);
                report.quote(&name, ran.excerpt);
            }
            Err(reason) => report.check(&name, Err(reason)),
        });
    }
    report.check("the broker stops in order after the suites", broker.stop());
    Ok(Results(results))
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

    fn execute(&self, environment: &[(&str, String)]) -> Result<Ran, String> {
        for words in self.setup {
            let finished = process::run(self.command(words), SETUP_LIMIT)?;
            if !finished.succeeded() {
                return Err(format!("{}: {}", words.join(" "), finished.complaint()));
            }
        }
        let mut counts = Counts::default();
        let (mut complaints, mut excerpt) = (Vec::new(), Vec::new());
        for finished in self.run_all(environment) {
            let finished = finished?;
            counts += self.runner.count(&finished.lines);
            if !finished.succeeded() {
                complaints.push(finished.complaint());
                excerpt.extend(failing::excerpt(self.runner, &finished.lines));
            }
        }
        let outcome = if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) };
        Ok(Ran { counts, outcome, excerpt })
    }

    /// Each run as it ended.
    fn run_all(&self, environment: &[(&str, String)]) -> Vec<Result<process::Finished, String>> {
        let next = AtomicUsize::new(0);
        let lane = || {
            let mut finished = Vec::new();
            while let Some(words) = self.runs.get(next.fetch_add(1, Relaxed)) {
                let mut command = self.command(words);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                finished.push(process::run(command, SUITE_LIMIT));
            }
            finished
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

//! Runs the integration tests that ship inside async-nats' package, each in a process of its own, against Wiremill.
//!
//! `lay` copies the tests out of the sources that cargo fetched (by version and checksum, from the lock file) and builds
//! them; `run` runs them. Nothing of the tests is changed but one password ([`SECRET`]); their helper crate `nats-server` is
//! ours, see `nats-server/`, and so is what would reach the network, see `offline/`.
//! Those in `exceptions.txt` are expected to fail: one that passes fails the run, and so does one that is listed and no
//! longer there.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde_json::{json, Value};

/// The package whose tests run.
const PACKAGE: &str = "async-nats";
/// Test files of the package that are not laid, with the reason.
const LEFT_OUT: [(&str, &str); 3] = [
    ("compatibility.rs", "a driver of another test suite, behind a feature of its own"),
    ("websocket_test.rs", "WebSocket is not built"),
    ("jwt_tests.rs", "operators and their JWT are not built"),
];
/// The one thing that is changed in the tests: a password and token that is shorter than the eight bytes of ours.
const SECRET: (&str, &str) = ("s3cr3t", "s3cr3t-s3cr3t");
/// What one test may take: the longest of them publishes ten thousand messages 10 ms apart.
const TEST_LIMIT: Duration = Duration::from_secs(240);
/// What one may take that is expected to fail: some wait for what never comes.
const EXCEPTION_LIMIT: Duration = Duration::from_secs(20);
/// Tests at a time: most of what they do is wait.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let done = match verb.as_str() {
        "lay" => lay().and_then(|()| build().map(|_| true)),
        "run" => run(std::env::args().nth(2).as_deref()),
        _ => Err("expected: lay | run [PART OF A NAME]".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(words: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(words)
        .current_dir(here())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} ended with {}", words.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where cargo put the package's sources, and their version.
fn sources() -> Result<(PathBuf, String), String> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1"])?)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == PACKAGE))
        .ok_or_else(|| format!("{PACKAGE} is not among the dependencies"))?;
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let folder = Path::new(manifest).parent().ok_or("a manifest without a folder")?;
    Ok((folder.to_owned(), package["version"].as_str().unwrap_or_default().to_owned()))
}

/// Copies the tests to `tests/`, where cargo looks for them.
fn lay() -> Result<(), String> {
    let (folder, _) = sources()?;
    let to = here().join("tests");
    if to.exists() {
        std::fs::remove_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    copy(&folder.join("tests"), &to).map_err(|error| format!("{}: {error}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|(left_out, _)| name == *left_out) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(name))?;
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(entry.path())?;
            std::fs::write(to.join(name), text.replace(SECRET.0, SECRET.1))?;
        } else {
            std::fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

/// Builds the tests: their programs by name.
fn build() -> Result<BTreeMap<String, PathBuf>, String> {
    let messages =
        cargo(&["test", "--locked", "--no-run", "--tests", "--message-format", "json-render-diagnostics"])?;
    let programs = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect::<BTreeMap<_, _>>();
    if programs.is_empty() {
        Err("there are no tests: `lay` them first".to_owned())
    } else {
        Ok(programs)
    }
}

/// A test by its name within its program.
struct Test {
    program: PathBuf,
    name: String,
    /// `program::name`, as exceptions are listed.
    full_name: String,
}

fn tests(programs: &BTreeMap<String, PathBuf>) -> Result<Vec<Test>, String> {
    let mut all = Vec::new();
    for (program_name, program) in programs {
        let list = |more: &[&str]| {
            let output = Command::new(program).args(["--list", "--format", "terse"]).args(more).output();
            let output = output.map_err(|error| format!("{program_name}: {error}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok::<_, String>(
                text.lines()
                    .filter_map(|line| line.strip_suffix(": test"))
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
        };
        // Those that their authors do not run are not ours to run.
        let ignored = list(&["--ignored"])?;
        all.extend(list(&[])?.into_iter().filter(|name| !ignored.contains(name)).map(|name| Test {
            program: program.clone(),
            full_name: format!("{program_name}::{name}"),
            name,
        }));
    }
    Ok(all)
}

/// The listed exceptions: `name = reason`, a line each.
fn exceptions() -> Result<BTreeMap<String, String>, String> {
    let path = here().join("exceptions.txt");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, reason) = line.split_once(" = ").ok_or_else(|| format!("no reason: {line}"))?;
            Ok((name.to_owned(), reason.to_owned()))
        })
        .collect()
}

/// How a test ended.
enum End {
    Passed,
    Failed(String),
}

fn run(wanted: Option<&str>) -> Result<bool, String> {
    let exceptions = exceptions()?;
    let mut all = tests(&build()?)?;
    let unknown: Vec<&String> =
        exceptions.keys().filter(|name| !all.iter().any(|test| test.full_name == **name)).collect();
    if !unknown.is_empty() {
        return Err(format!("listed as exceptions but not there: {unknown:?}"));
    }
    all.retain(|test| wanted.is_none_or(|wanted| test.full_name.contains(wanted)));
    // The longest first.
    all.sort_by_key(|test| !test.name.contains("recreate") && !test.name.contains("reconnect"));
    let queue = Mutex::new(all.iter());
    let [mut passed, mut failed, mut excepted] = [0, 0, 0];
    let counts = Mutex::new([&mut passed, &mut failed, &mut excepted]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| loop {
                let next = queue.lock().unwrap().next();
                let Some(test) = next else { return };
                let exception = exceptions.get(&test.full_name);
                let (counted, line) = judge(test, exception);
                *counts.lock().unwrap()[counted] += 1;
                println!("{line}");
            });
        }
    });
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; {excepted} ignored; 0 measured; 0 filtered out"
    );
    if wanted.is_none() {
        record(failed == 0)?;
    }
    Ok(failed == 0)
}

/// Runs a test: whether it counts as passed, failed, or excepted, and what to say of it.
fn judge(test: &Test, exception: Option<&String>) -> (usize, String) {
    let name = &test.full_name;
    let began = Instant::now();
    let end = end_of(test, if exception.is_some() { EXCEPTION_LIMIT } else { TEST_LIMIT });
    let took = began.elapsed().as_secs_f32();
    match (end, exception) {
        (End::Passed, None) => (0, format!("test {name} ... ok ({took:.1} s)")),
        (End::Failed(_), Some(reason)) => (2, format!("test {name} ... ignored, {reason} ({took:.1} s)")),
        (End::Failed(output), None) => (1, format!("{output}\ntest {name} ... FAILED ({took:.1} s)")),
        (End::Passed, Some(reason)) => {
            (1, format!("test {name} ... FAILED: it passes, but is listed as an exception: {reason}"))
        }
    }
}

fn end_of(test: &Test, limit: Duration) -> End {
    let output = std::env::temp_dir().join(format!(
        "async-nats-{}-{}",
        std::process::id(),
        test.name.replace(':', "_")
    ));
    let end = watch(test, limit, &output).unwrap_or_else(End::Failed);
    drop(std::fs::remove_file(output));
    end
}

fn watch(test: &Test, limit: Duration, output: &Path) -> Result<End, String> {
    let text = |error: std::io::Error| format!("{}: {error}", test.full_name);
    let file = std::fs::File::create(output).map_err(text)?;
    let mut child = Command::new(&test.program)
        .args(["--exact", &test.name, "--nocapture"])
        .current_dir(here())
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(text)?)
        .stderr(file)
        .spawn()
        .map_err(text)?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(text)? {
            let said = String::from_utf8_lossy(&std::fs::read(output).map_err(text)?).into_owned();
            let has_run = said.contains("1 passed");
            return Ok(if status.success() && has_run { End::Passed } else { End::Failed(said) });
        }
        if began.elapsed() > limit {
            child.kill().map_err(text)?;
            child.wait().map_err(text)?;
            return Ok(End::Failed(format!("stopped after {} s", limit.as_secs())));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The line for the compatibility page.
fn record(has_passed: bool) -> Result<(), String> {
    let Ok(folder) = std::env::var("WIREMILL_RESULTS") else { return Ok(()) };
    let line = json!({
        "protocol": "NATS",
        "capability": "async-nats' own integration tests, but for the listed exceptions",
        "client": PACKAGE,
        "version": sources()?.1,
        "result": if has_passed { "passed" } else { "failed" },
    });
    std::fs::File::create(Path::new(&folder).join("async-nats.jsonl"))
        .and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|error| format!("{folder}: {error}"))
}

//! The command line: `serve`, and what asks a running server over its admin API.

mod context;
mod cursor;
mod dlq;
mod http;
mod lines;
mod moves;
mod order;
mod out;
mod queue;
mod repair;
mod route;
mod serve_args;
mod stream;
mod table;
mod time;
mod user;

use std::{process::ExitCode, time::Duration};

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};

use tokio::time::timeout;

pub use self::time::duration_ms;
use crate::{
    doctor,
    listeners::ListenerName,
    settings::{Listen, Settings},
};

/// Commands that ask a running server.
#[derive(Subcommand)]
enum Ask {
    /// Streams: list, make, look into, publish to
    #[command(subcommand)]
    Stream(stream::Verb),
    /// Cursors: who reads, how far behind, and why a group rebalanced
    #[command(subcommand)]
    Cursor(cursor::Verb),
    /// Queues: list, make, look into, publish to, move
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Dead letters: look at them, send them back
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// Routes from addresses to streams
    #[command(subcommand)]
    Route(route::Verb),
    /// Users and what they may do
    #[command(subcommand)]
    User(user::Verb),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let mut typed = std::env::args_os();
    let program = typed.next();
    let matches = command().get_matches_from(program.into_iter().chain(order::arranged(typed)));
    match matches.subcommand() {
        None => serve_args::run(&matches),
        Some(("serve", matches)) => serve_args::run(matches),
        Some(("version", matches)) => version(matches),
        Some(("settings", _)) => out::line(crate::settings::reference_page().trim_end()),
        Some(("doctor", matches)) => doctor(matches),
        Some(("repair", matches)) => repair::run(matches),
        Some(_) => match Ask::from_arg_matches(&matches) {
            Ok(ask) => run(ask),
            Err(e) => e.exit(),
        },
    }
}

/// Everything that can be typed.
fn command() -> Command {
    let serve = Command::new("serve").about("Start the server (the default)");
    let doctor = Command::new("doctor").about("Look at the disk, the ports and the limits of this machine");
    let root = Command::new("wiremill")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .after_help(
            "Commands that ask a running server take --admin, --admin-ca, --as, --namespace and --json, before or after \
             their names: `wiremill --admin http://127.0.0.1:8222 stream ls`.",
        )
        .subcommand(serve_args::with_flags(serve));
    let root = Ask::augment_subcommands(root)
        .subcommand(repair::command())
        .subcommand(serve_args::with_flags(doctor).arg(context::json_flag()))
        .subcommand(Command::new("settings").about("Print the reference of all settings"))
        .subcommand(Command::new("version").about("Say which version this is").arg(context::json_flag()));
    // Behind what the commands' own text would be.
    let root = root.about("One log, every wire: a message broker that the clients of several others talk to");
    serve_args::with_flags(root)
}

fn run(ask: Ask) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return out::problem(&format!("no runtime: {e}")),
    };
    let outcome = runtime.block_on(async {
        match ask {
            Ask::Stream(verb) => stream::run(verb).await,
            Ask::Cursor(verb) => cursor::run(verb).await,
            Ask::Queue(verb) => queue::run(verb).await,
            Ask::Dlq(verb) => dlq::run(verb).await,
            Ask::Route(verb) => route::run(verb).await,
            Ask::User(verb) => user::run(verb).await,
        }
    });
    finish(outcome)
}

/// The exit code of an outcome; its error is said.
fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => out::problem(&why),
    }
}

fn version(matches: &ArgMatches) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if matches.get_flag("json") {
        return out::line(&serde_json::json!({ "version": version }).to_string());
    }
    out::line(&format!("wiremill {version}"))
}

/// The queues of a server that runs with these settings and answers without a user.
fn running_queues(settings: &Settings) -> Option<serde_json::Value> {
    let Listen::On { host, port } = settings.listen.get(&ListenerName::Admin)? else { return None };
    let client = http::Client::new(&format!("http://{host}:{port}"), None, None).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asking = async { timeout(RUNNING_DEADLINE, client.get("/api/v1/queues", &[])).await };
    runtime.block_on(asking).ok()?.ok()
}

/// How long the doctor waits for a server that may not be there.
const RUNNING_DEADLINE: Duration = Duration::from_secs(3);

fn doctor(matches: &ArgMatches) -> ExitCode {
    let settings = match serve_args::read(matches) {
        Ok(settings) => settings,
        Err(why) => return out::problem(&why),
    };
    let mut findings = doctor::examine(&settings);
    findings.extend(doctor::examine_queues(&settings, running_queues(&settings).as_ref()));
    let rows = doctor::rows(&findings);
    let shown = if matches.get_flag("json") {
        out::json(&serde_json::json!({ "findings": rows }))
    } else {
        out::text(&table::render(&rows, &[("", "verdict"), ("WHAT", "what"), ("FINDING", "finding")]))
    };
    match shown {
        Ok(()) if doctor::is_bad(&findings) => ExitCode::FAILURE,
        outcome => finish(outcome),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_commands_do_not_contradict_each_other() {
        super::command().debug_assert();
    }
}

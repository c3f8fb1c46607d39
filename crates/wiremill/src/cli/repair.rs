//! `wiremill repair`: looks at a data directory that no server holds, offline.

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{context::json_flag, finish, out};
use crate::{data_dir, offline};

/// The command and its flags.
pub fn command() -> Command {
    let data_dir = Arg::new("data_dir")
        .long("data-dir")
        .env("WIREMILL_DATA_DIR")
        .default_value("./wiremill-data")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("Folder to look at; no server may hold it");
    Command::new("repair")
        .about("Open a data directory without a server, read everything in it, and say what is damaged")
        .long_about(
            "Opens a data directory without a server, reads everything in it, and says what is damaged. Where damage \
             keeps a server from starting, --accept-loss gives up what does not read: the rest is served from then on.",
        )
        .arg(data_dir)
        .arg(
            Arg::new("accept_loss")
                .long("accept-loss")
                .action(ArgAction::SetTrue)
                .help("Give up what was acknowledged and does not read any more"),
        )
        .arg(json_flag())
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some(path) = matches.get_one::<PathBuf>("data_dir") else {
        return out::problem("--data-dir is missing");
    };
    if !path.is_dir() {
        return out::problem(&format!("{} is no folder", path.display()));
    }
    if !data_dir::is_data_dir(path) {
        return out::problem(&format!(
            "{} is no data directory: there is neither a format file nor a log in it; see --data-dir",
            path.display()
        ));
    }
    let report = match offline::examine(path, matches.get_flag("accept_loss")) {
        Ok(report) => report,
        Err(why) => return out::problem(&why),
    };
    let shown = if matches.get_flag("json") {
        out::json(&json!({
            "replayed_units": report.replayed_units,
            "torn": report.torn,
            "streams": report.streams,
            "batches": report.batches,
            "bytes": report.bytes,
            "damaged": report.damaged,
        }))
    } else {
        out::text(&report.text())
    };
    match shown {
        Ok(()) if !report.damaged.is_empty() => ExitCode::FAILURE,
        outcome => finish(outcome),
    }
}

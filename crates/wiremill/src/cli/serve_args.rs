//! From arguments, variables and file to settings.

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::out;
use crate::{
    logging::Logging,
    serve,
    settings::{Raw, Settings, flags},
};

/// `command` with `--config` and one flag per setting.
pub fn with_flags(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .env("WIREMILL_CONFIG")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Settings file (TOML); docs/settings.md lists what it may hold");
    command.arg(config).args(flags())
}

/// Runs the server with these arguments.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match read(matches) {
        Ok(settings) => settings,
        Err(why) => return out::problem(&why),
    };
    match Logging::start(settings.log_format, &settings.log_level) {
        Ok(logging) => serve::run(settings, logging, || read(matches)),
        Err(why) => out::problem(&why),
    }
}

/// File, then variables, then flags.
pub fn read(matches: &ArgMatches) -> Result<Settings, String> {
    let mut raw = Raw::default();
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        raw.file(path, &text).map_err(|e| e.to_string())?;
    }
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    raw.environment(variables).map_err(|e| e.to_string())?;
    raw.arguments(matches).map_err(|e| e.to_string())?;
    Settings::from_raw(&raw).map_err(|e| e.to_string())
}

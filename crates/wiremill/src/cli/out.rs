//! The one place that writes for people and programs who typed a command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Writes to standard output. A reader that went away (`| head`) ends the process without complaint.
pub fn text(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(format!("standard output: {e}")),
    }
}

/// Writes a value, indented.
pub fn json(value: &serde_json::Value) -> Result<(), String> {
    text(&format!("{value:#}\n"))
}

/// Writes a line and says how that went.
pub fn line(line: &str) -> ExitCode {
    match text(&format!("{line}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says on standard error what is wrong.
pub fn problem(text: &str) -> ExitCode {
    note(text);
    ExitCode::FAILURE
}

/// Says something on standard error.
pub fn note(text: &str) {
    let _nobody_listens = writeln!(io::stderr(), "wiremill: {text}");
}

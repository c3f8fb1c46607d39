//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::settings::LogFormat;

/// Changes what is logged while the process runs.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logging {
    /// Starts logging. The error is about `level`.
    pub fn start(format: LogFormat, level: &str) -> Result<Logging, String> {
        let (filter, handle) = reload::Layer::new(directives(level)?);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        let started = match format {
            LogFormat::Text => Registry::default().with(filter).with(lines.with_target(false)).try_init(),
            LogFormat::Json => Registry::default().with(filter).with(lines.json()).try_init(),
        };
        started.map_err(|e| e.to_string())?;
        Ok(Logging { filter: handle })
    }

    /// Takes other directives.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        self.filter.reload(directives(level)?).map_err(|e| e.to_string())
    }
}

fn directives(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("log_level = {level:?}: {e}"))
}

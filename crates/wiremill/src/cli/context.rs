//! What every command that asks a server has in common: where it is, who asks, how the answer looks.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Args};
use serde_json::Value;

use super::{http::Client, out, table};

/// Flags of every asking command.
#[derive(Args, Clone)]
pub struct Context {
    /// Admin listener of the server
    #[arg(long, env = "WIREMILL_ADMIN", default_value = "http://127.0.0.1:8222", value_name = "URL")]
    admin: String,
    /// Certificates (PEM) that an https:// admin listener's own must lead to
    #[arg(long, env = "WIREMILL_ADMIN_CA", value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// Who asks, once the server has users
    #[arg(long = "as", env = "WIREMILL_AS", value_name = "NAME:PASSWORD", hide_env_values = true)]
    credentials: Option<String>,
    /// Where names are looked up; the user's own tenant and space `default` when absent
    #[arg(long, env = "WIREMILL_NAMESPACE", value_name = "TENANT/SPACE")]
    namespace: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `--json` for commands that ask nobody.
pub fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Answer in JSON")
}

impl Context {
    /// A client of the server.
    pub fn client(&self) -> Result<Client, String> {
        let mut client = Client::new(&self.admin, self.admin_ca.as_deref(), self.credentials.as_deref())?;
        if let Some(namespace) = &self.namespace {
            client.always("namespace", namespace);
        }
        Ok(client)
    }

    /// Shows `answer`: as it is with `--json`, else the rows under `key` as a table.
    pub fn rows(&self, answer: &Value, key: &str, columns: &[(&str, &str)]) -> Result<(), String> {
        if self.json {
            return out::json(answer);
        }
        let none = Vec::new();
        out::text(&table::render(answer[key].as_array().unwrap_or(&none), columns))
    }

    /// Shows `answer`: as it is with `--json`, else `text`.
    pub fn either(&self, answer: &Value, text: &str) -> Result<(), String> {
        if self.json { out::json(answer) } else { out::text(text) }
    }
}

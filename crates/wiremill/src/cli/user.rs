//! `wiremill user …`

use std::io::BufRead;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::{context::Context, http::escaped, out};

/// Random bytes of a password that nobody gave.
const PASSWORD_RANDOM_LEN: usize = 18;

/// What can be done with users.
#[derive(Subcommand)]
pub enum Verb {
    /// Add or change a user
    Add(Box<Addition>),
    /// List the users
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// Remove a user
    Rm {
        name: String,
        #[command(flatten)]
        context: Context,
    },
}

/// A user as the flags describe it.
#[derive(Args)]
pub struct Addition {
    name: String,
    /// Its password; absent for a new user: a random one, which is shown once
    #[arg(long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Its tenant; `public` for a new user
    #[arg(long)]
    tenant: Option<String>,
    /// What it may do: read, write, configure, admin or respond, and a pattern of names; repeatable. Absent:
    /// everything in its tenant
    #[arg(long = "allow", value_name = "ACTION:PATTERN")]
    permissions: Vec<String>,
    /// What it may not do, whatever else allows it; repeatable. Where nothing is allowed, everything else is
    #[arg(long = "deny", value_name = "ACTION:PATTERN")]
    denied: Vec<String>,
    /// Give it an access key, with which AWS clients sign: one that is made here and shown once, or ID:SECRET
    #[arg(long, value_name = "ID:SECRET", num_args = 0..=1, require_equals = true)]
    access_key: Option<Option<String>>,
    /// Take an access key away; repeatable
    #[arg(long = "no-access-key", value_name = "ID")]
    no_access_keys: Vec<String>,
    /// Public key (U…) whose owner is let in as this user by NATS; repeatable
    #[arg(long = "nkey", value_name = "PUBLIC KEY")]
    public_keys: Vec<String>,
    /// Take a public key away; repeatable
    #[arg(long = "no-nkey", value_name = "PUBLIC KEY")]
    no_public_keys: Vec<String>,
    /// Token that lets a NATS client in as this user; repeatable
    #[arg(long = "token", value_name = "TOKEN")]
    tokens: Vec<String>,
    /// Take a token away; repeatable
    #[arg(long = "no-token", value_name = "TOKEN")]
    no_tokens: Vec<String>,
    #[command(flatten)]
    context: Context,
}

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Add(addition) => addition.run().await,
        Verb::Ls { context } => {
            let answer = context.client()?.get("/api/v1/users", &[]).await?;
            let columns = [
                ("NAME", "name"),
                ("TENANT", "tenant"),
                ("PASSWORD", "password"),
                ("SCRAM", "scram"),
                ("ACCESS KEYS", "access_keys"),
                ("NKEYS", "public_keys"),
                ("TOKENS", "tokens"),
                ("MAY", "permissions"),
            ];
            context.rows(&answer, "users", &columns)
        }
        Verb::Rm { name, context } => {
            let answer = context.client()?.delete(&path(&name), &[]).await?;
            if context.json { out::json(&answer) } else { Ok(()) }
        }
    }
}

impl Addition {
    async fn run(self) -> Result<(), String> {
        self.public_keys.iter().try_for_each(|key| check_public_key(key))?;
        let permissions = with_denied(self.permissions, self.denied);
        let password = if self.password_stdin { Some(first_line()?) } else { self.password };
        let mut body = json!({
            "tenant": self.tenant,
            "permissions": (!permissions.is_empty()).then_some(permissions),
            "remove_access_keys": self.no_access_keys,
            "public_keys": self.public_keys,
            "remove_public_keys": self.no_public_keys,
            "tokens": self.tokens,
            "remove_tokens": self.no_tokens,
        });
        let key = self.access_key.map(|given| AccessKey::of(given.as_deref())).transpose()?;
        if let Some(key) = &key {
            body["access_keys"] = json!([{ "id": key.id, "secret": key.secret }]);
        }
        add(&self.name, password, body, key.filter(|key| key.is_new), &self.context).await
    }
}

/// A user's public key is `U` and 55 more letters and digits of Base32.
fn check_public_key(key: &str) -> Result<(), String> {
    let is_base32 = key.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    if key.len() == 56 && key.starts_with('U') && is_base32 {
        return Ok(());
    }
    Err(format!(
        "{key} is not the public key of a user (U and 55 more characters, as `nk -inkey … -pubout` prints it)"
    ))
}

/// Permissions as the server reads them.
fn with_denied(mut permissions: Vec<String>, denied: Vec<String>) -> Vec<String> {
    if permissions.is_empty() && !denied.is_empty() {
        permissions.push("admin:*".to_owned());
    }
    permissions.extend(denied.into_iter().map(|one| format!("deny-{one}")));
    permissions
}

fn path(name: &str) -> String {
    format!("/api/v1/users/{}", escaped(name))
}

fn first_line() -> Result<String, String> {
    let line = std::io::stdin().lock().lines().next();
    line.ok_or("standard input is empty")?.map_err(|e| format!("standard input: {e}"))
}

async fn add(
    name: &str,
    password: Option<String>,
    mut body: Value,
    made: Option<AccessKey>,
    context: &Context,
) -> Result<(), String> {
    let client = context.client()?;
    let mut generated = None;
    let password = match password {
        Some(password) => Some(password),
        None if is_known(&client.get("/api/v1/users", &[]).await?, name) => None,
        None => {
            generated = Some(random_password());
            generated.clone()
        }
    };
    body["password"] = json!(password);
    let mut answer = client.call(Method::PUT, &path(name), &[], Some(body)).await?;
    let mut shown = String::new();
    if let Some(generated) = generated {
        answer["generated_password"] = generated.as_str().into();
        shown.push_str(&format!("password of {name}: {generated}\n"));
    }
    if let Some(AccessKey { id, secret, .. }) = made {
        answer["generated_access_key"] = json!({ "id": id, "secret": secret });
        shown.push_str(&format!("access key of {name}: {id}\nsecret access key: {secret}\n"));
    }
    context.either(&answer, &shown)
}

fn is_known(users: &Value, name: &str) -> bool {
    users["users"].as_array().into_iter().flatten().any(|user| user["name"] == name)
}

/// An id and a secret to sign with.
struct AccessKey {
    id: String,
    secret: String,
    /// Made here, so that somebody must be told.
    is_new: bool,
}

impl AccessKey {
    fn of(given: Option<&str>) -> Result<AccessKey, String> {
        let Some(text) = given else { return Ok(AccessKey::random()) };
        let (id, secret) = text.split_once(':').ok_or("--access-key takes ID:SECRET")?;
        Ok(AccessKey { id: id.to_owned(), secret: secret.to_owned(), is_new: false })
    }

    /// As long, and of the letters, as AWS makes them.
    fn random() -> AccessKey {
        const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let random = env::real().random;
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
        let id = "AKIA".chars().chain(letters.map(|letter| char::from(*letter))).collect();
        let mut bytes = [0; 30];
        random.fill(&mut bytes);
        AccessKey { id, secret: BASE64_URL_SAFE_NO_PAD.encode(bytes), is_new: true }
    }
}

fn random_password() -> String {
    let mut bytes = [0; PASSWORD_RANDOM_LEN];
    env::real().random.fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

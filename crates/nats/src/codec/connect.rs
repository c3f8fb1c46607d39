//! CONNECT: what a client says of itself.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The options that are looked at; unknown ones are left alone, as new clients bring new ones. Absent ones are as the
/// original has them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Connect {
    /// Whether each operation is answered with `+OK`.
    pub verbose: bool,
    /// Whether subjects that are published to are checked.
    pub pedantic: bool,
    pub auth_token: Option<String>,
    pub user: Option<String>,
    pub pass: Option<String>,
    /// The client's own name.
    pub name: Option<String>,
    pub lang: Option<String>,
    pub version: Option<String>,
    /// 0 or 1; from 1 on the client takes INFO at any time.
    pub protocol: i64,
    /// Whether it gets its own messages back.
    pub echo: bool,
    pub headers: bool,
    pub no_responders: bool,
    pub nkey: Option<String>,
    pub sig: Option<String>,
    pub jwt: Option<String>,
    /// Accounts asked for by name are a thing of the past: refused.
    pub account: Option<String>,
    /// What was said so far, as it was said.
    #[serde(skip)]
    said: Map<String, Value>,
}

impl Default for Connect {
    fn default() -> Self {
        Connect {
            verbose: true,
            pedantic: true,
            auth_token: None,
            user: None,
            pass: None,
            name: None,
            lang: None,
            version: None,
            protocol: 0,
            echo: true,
            headers: false,
            no_responders: false,
            nkey: None,
            sig: None,
            jwt: None,
            account: None,
            said: Map::new(),
        }
    }
}

impl Connect {
    /// What it says after what was said `before`: what is absent, or null, stays. `None` when it is no JSON object of
    /// that shape.
    pub(crate) fn parse(json: &[u8], before: &Connect) -> Option<Self> {
        let mut said = before.said.clone();
        match serde_json::from_slice::<Value>(json).ok()? {
            Value::Null => {}
            Value::Object(more) => said.extend(more.into_iter().filter(|(_, value)| !value.is_null())),
            _ => return None,
        }
        let connect: Connect = serde_json::from_value(Value::Object(said.clone())).ok()?;
        Some(Connect { said, ..connect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Connect> {
        Connect::parse(json.as_bytes(), &Connect::default())
    }

    #[test]
    fn what_is_absent_is_as_the_original_has_it() {
        let connect = parse("{}").unwrap();
        assert!(connect.verbose && connect.pedantic && connect.echo);
        assert!(!connect.headers && !connect.no_responders);
        assert_eq!(connect.protocol, 0);
    }

    #[test]
    fn clients_may_say_more_than_is_known() {
        let connect =
            parse(r#"{"verbose":false,"user":"u","pass":null,"tls_required":false,"new":[1]}"#).unwrap();
        assert_eq!((connect.verbose, connect.user.as_deref(), connect.pass), (false, Some("u"), None));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "[]", "{", "{\"verbose\":1}", "\u{1}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_second_one_changes_what_it_names() {
        let first = parse(r#"{"verbose":false,"headers":true}"#).unwrap();
        for same in ["null", "{}", r#"{"headers":null}"#] {
            let second = Connect::parse(same.as_bytes(), &first).unwrap();
            assert_eq!((second.verbose, second.headers, second.pedantic), (false, true, true), "{same}");
        }
        let second = Connect::parse(br#"{"verbose":true}"#, &first).unwrap();
        assert!(second.verbose && second.headers);
    }
}

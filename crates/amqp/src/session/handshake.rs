//! From the first bytes to an open connection.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use broker::Principal;

use super::{Ending, Phase, Result, Session};
use crate::{
    channel::Failed,
    codec::{Method, Table, TableWriter, Value, put_method, table_of},
    error::{Code, Exception},
    server::{CAPABILITIES, PRODUCT, VERSION},
    vhost::{DEFAULT, namespace_of},
};

/// Mechanisms that are offered, and those offered to a client whose certificate was verified.
const MECHANISMS: &[u8] = b"AMQPLAIN PLAIN";
const MECHANISMS_CERTIFIED: &[u8] = b"AMQPLAIN EXTERNAL PLAIN";

/// The shortest longest frame that a client may ask for. The original has 8192 here; clients of before ask for 4096.
const FRAME_MIN: u32 = 4_096;

impl Session {
    /// Says who is here: the first frame of a connection.
    pub(super) fn start(&mut self) {
        let mut capabilities = TableWriter::default();
        for name in CAPABILITIES {
            capabilities.field(name, Value::Bool(true));
        }
        let capabilities = capabilities.finish();
        let mut properties = TableWriter::default();
        properties
            .field("capabilities", Value::Table(table_of(&capabilities)))
            .field("cluster_name", Value::Text(b"wiremill"))
            .field("copyright", Value::Text(b"See https://www.rabbitmq.com for the original"))
            .field("information", Value::Text(b"Wiremill, compatible with RabbitMQ"))
            .field("platform", Value::Text(b"Wiremill"))
            .field("product", Value::Text(PRODUCT.as_bytes()))
            .field("version", Value::Text(VERSION.as_bytes()));
        let properties = properties.finish();
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: table_of(&properties),
            mechanisms: if self.info.certified.is_some() { MECHANISMS_CERTIFIED } else { MECHANISMS },
            locales: b"en_US",
        };
        put_method(&mut self.out, 0, start);
    }

    /// A method before the connection is open.
    pub(super) async fn shake_hands(&mut self, method: Method<'_>) -> Result<Option<Ending>> {
        let fails = |exception: Exception| Failed::of(exception.of_connection(), &method);
        match (&self.phase, method) {
            (Phase::Start, Method::ConnectionStartOk { client_properties, mechanism, response, .. }) => {
                self.read_client(client_properties);
                match self.authenticate(mechanism, response).await {
                    Ok(()) => {
                        let options = &self.server.options;
                        let (channel_max, heartbeat) = (options.channel_max, options.heartbeat_s);
                        let tune =
                            Method::ConnectionTune { channel_max, frame_max: options.frame_max, heartbeat };
                        put_method(&mut self.out, 0, tune);
                        self.phase = Phase::Tune;
                        Ok(None)
                    }
                    Err(refused) if refused.code == Code::AccessRefused && !self.wants_auth_close => {
                        Ok(Some(Ending::Silent("refused, and not told: it does not want to be")))
                    }
                    Err(refused) => Err(fails(refused)),
                }
            }
            (Phase::Tune, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                self.tune(channel_max, frame_max, heartbeat).map_err(fails)?;
                self.phase = Phase::Open;
                Ok(None)
            }
            (Phase::Open, Method::ConnectionOpen { virtual_host, .. }) => {
                self.open(virtual_host).map_err(fails)?;
                put_method(&mut self.out, 0, Method::ConnectionOpenOk { known_hosts: "" });
                self.phase = Phase::Running;
                Ok(None)
            }
            (_, Method::ConnectionClose { .. }) => {
                put_method(&mut self.out, 0, Method::ConnectionCloseOk {});
                Ok(Some(Ending::Done))
            }
            _ => Err(fails(self.unexpected())),
        }
    }

    /// A method of the connection that does not belong where the connection is.
    pub(super) fn unexpected(&self) -> Exception {
        let state = match self.phase {
            Phase::Header | Phase::Start => "starting",
            Phase::Tune => "tuning",
            Phase::Open => "opening",
            Phase::Running => "running",
        };
        Exception::new(Code::ChannelError, format!("unexpected method in connection state {state}"))
    }

    fn read_client(&mut self, properties: Table<'_>) {
        let Some(Value::Table(capabilities)) = properties.get("capabilities") else { return };
        let has = |name: &str| capabilities.get(name) == Some(Value::Bool(true));
        self.client.wants_cancels.store(has("consumer_cancel_notify"), Relaxed);
        self.wants_blocked = has("connection.blocked");
        self.wants_auth_close = has("authentication_failure_close");
    }

    async fn authenticate(&mut self, mechanism: &str, response: &[u8]) -> std::result::Result<(), Exception> {
        let refused = || {
            Exception::refused(format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            ))
        };
        let credentials = match mechanism {
            "PLAIN" => plain(response),
            "AMQPLAIN" => amqplain(response),
            "EXTERNAL" => return self.log_in_certified().ok_or_else(refused),
            other => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(Exception::new(Code::CommandInvalid, text));
            }
        };
        let (user, password) = credentials.ok_or_else(refused)?;
        let principal = if self.server.lets_anyone_in() {
            Principal::anonymous()
        } else {
            self.watch_users();
            let checked = self.server.broker.users().authenticate(&user, &password).await;
            checked.map_err(|error| {
                tracing::info!(peer = %self.info.peer, user, %error, "a login was refused");
                refused()
            })?
        };
        self.principal = Some(Arc::new(principal));
        self.user = user;
        Ok(())
    }

    /// Logs in by the name in the client's certificate. `None` without one, or when it is nobody's.
    fn log_in_certified(&mut self) -> Option<()> {
        let Some(user) = self.info.certified.clone() else {
            tracing::info!(peer = %self.info.peer, "EXTERNAL was asked for without a certificate that has a name");
            return None;
        };
        let principal = if self.server.lets_anyone_in() {
            Principal::anonymous()
        } else {
            self.watch_users();
            let known = self.server.broker.users().principal(&user);
            if known.is_none() {
                tracing::info!(peer = %self.info.peer, user, "a certificate names nobody who is known");
            }
            known?
        };
        self.principal = Some(Arc::new(principal));
        self.user = user;
        Some(())
    }

    fn tune(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    ) -> std::result::Result<(), Exception> {
        let options = &self.server.options;
        negotiated("channel_max", channel_max.into(), 1, options.channel_max.into())?;
        negotiated("frame_max", frame_max, FRAME_MIN, options.frame_max)?;
        self.channel_max = channel_max;
        self.client.frame_max.store(usize::try_from(frame_max).unwrap_or(usize::MAX), Relaxed);
        self.client.heartbeat_ms.store(u64::from(heartbeat) * 1_000, Relaxed);
        Ok(())
    }

    fn open(&mut self, name: &str) -> std::result::Result<(), Exception> {
        let name = if name.is_empty() { DEFAULT } else { name };
        let Some(principal) = &self.principal else {
            return Err(Exception::new(Code::CommandInvalid, "nobody has logged in"));
        };
        let namespace = namespace_of(principal, name);
        if !self.server.has_vhost(name, &namespace) {
            return Err(Exception::not_allowed(format!("vhost {name} not found")));
        }
        self.vhost = Some(self.server.vhosts.of(&self.server.broker, name, namespace));
        Ok(())
    }
}

/// What a client may choose: up to the server's value, which 0 (no limit) is above.
fn negotiated(field: &str, value: u32, min: u32, max: u32) -> std::result::Result<(), Exception> {
    let shown =
        if value == 0 && field == "channel_max" { "0 (no limit)".to_owned() } else { value.to_string() };
    if value == 0 || value > max {
        return Err(Exception::not_allowed(format!(
            "negotiated {field} = {shown} is higher than the maximum allowed value ({max})"
        )));
    }
    if value < min {
        return Err(Exception::not_allowed(format!(
            "negotiated {field} = {shown} is lower than the minimum allowed value ({min})"
        )));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// RFC 4616: an identity that is not used, user, password.
fn plain(response: &[u8]) -> Option<(String, String)> {
    let mut parts = response.split(|byte| *byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(())?;
    Some((text(user)?, text(password)?))
}

/// A table without its length.
fn amqplain(response: &[u8]) -> Option<(String, String)> {
    let table = table_of(response);
    let field = |name: &str| match table.get(name) {
        Some(Value::Text(bytes)) => text(bytes),
        _ => None,
    };
    Some((field("LOGIN")?, field("PASSWORD")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mechanisms_give_user_and_password() {
        let both = Some(("guest".to_owned(), "secret".to_owned()));
        assert_eq!(plain(b"\0guest\0secret"), both);
        assert_eq!(plain(b"other\0guest\0secret"), both);
        assert_eq!(plain(b"\0guest"), None);
        assert_eq!(plain(b"\0guest\0secret\0"), None);
        let mut response = TableWriter::default();
        response.field("LOGIN", Value::Text(b"guest")).field("PASSWORD", Value::Text(b"secret"));
        assert_eq!(amqplain(&response.finish()), both);
        assert_eq!(amqplain(b"\0guest\0secret"), None);
    }

    #[test]
    fn what_a_client_chooses_is_within_the_servers_limits() {
        let refused = |value| negotiated("channel_max", value, 1, 2_047).unwrap_err().explanation;
        assert_eq!(
            refused(2_048),
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"
        );
        assert!(refused(0).contains("0 (no limit) is higher"));
        assert_eq!(negotiated("channel_max", 2_047, 1, 2_047), Ok(()));
        assert!(negotiated("frame_max", 4_095, FRAME_MIN, 131_072).is_err());
        assert!(negotiated("frame_max", 4_096, FRAME_MIN, 131_072).is_ok());
    }
}

use std::{io::Read, io::Write, net::TcpStream, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use crate::process::{Scratch, Server, parse, until};

/// An authority, and certificates for `localhost` and for a client, as files and as values.
struct Paper {
    folder: Scratch,
    authority: CertificateDer<'static>,
    client: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Paper {
    fn new() -> Paper {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let signed = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let folder = Scratch::new();
        let (server, server_key) = signed("localhost");
        std::fs::write(folder.path("ca.pem"), issuer.pem()).unwrap();
        std::fs::write(folder.path("cert.pem"), server.pem()).unwrap();
        std::fs::write(folder.path("key.pem"), server_key.serialize_pem()).unwrap();
        let (client, client_key) = signed("client");
        let client_key = PrivateKeyDer::try_from(client_key.serialize_der()).unwrap();
        Paper { folder, authority: issuer.der().clone(), client: (client.der().clone(), client_key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    fn start(&self, with_client_ca: bool) -> Server {
        self.start_with(with_client_ca, &[])
    }

    fn start_with(&self, with_client_ca: bool, more: &[&str]) -> Server {
        let of = |name: &str| format!("admin={}", self.file(name).display());
        let (cert, key, ca) = (of("cert.pem"), of("key.pem"), of("ca.pem"));
        let mut arguments = vec!["--tls-cert", &cert, "--tls-key", &key];
        if with_client_ca {
            arguments.extend(["--tls-client-ca", &ca]);
        }
        arguments.extend(more);
        Server::start(&arguments)
    }

    /// A connection to a listener that speaks TLS; the handshake is still to come.
    fn connect(
        &self,
        server: &Server,
        listener: &str,
        with_certificate: bool,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            builder.with_client_auth_cert(vec![self.client.0.clone()], self.client.1.clone_key()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Ok(StreamOwned::new(connection, TcpStream::connect(server.address(listener))?))
    }

    /// Asks for health over TLS; the error of the handshake or of the read.
    fn ask(&self, server: &Server, with_certificate: bool) -> std::io::Result<(u16, String)> {
        let mut stream = self.connect(server, "admin", with_certificate)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(parse(&answer))
    }
}

#[test]
fn a_listener_with_a_certificate_speaks_tls() {
    let paper = Paper::new();
    let mut server = paper.start(false);
    assert_eq!(paper.ask(&server, false).unwrap(), (200, r#"{"status":"ok"}"#.to_owned()));
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_listener_with_a_client_authority_wants_a_certificate() {
    let paper = Paper::new();
    let server = paper.start(true);
    assert!(paper.ask(&server, false).is_err());
    assert_eq!(paper.ask(&server, true).unwrap().0, 200);
}

#[test]
fn a_certificate_is_read_again_on_a_hangup() {
    let (old, new) = (Paper::new(), Paper::new());
    let server = old.start(false);
    assert!(new.ask(&server, false).is_err());
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(new.file(name), old.file(name)).unwrap();
    }
    assert_eq!(old.ask(&server, false).unwrap().0, 200, "the files count when they are asked for");
    server.signal("HUP");
    until("the certificate was read again", || server.log().contains("were read again"));
    assert_eq!(new.ask(&server, false).unwrap().0, 200);
    assert!(old.ask(&server, false).is_err());
}

#[test]
fn other_files_and_an_authority_are_taken_on_a_hangup_or_nothing_is() {
    let (old, new) = (Paper::new(), Paper::new());
    let config = old.file("wiremill.toml");
    let write = |paper: &Paper, more: &str| {
        let of = |name: &str| paper.file(name).display().to_string();
        let text = format!(
            "[tls_cert]\nadmin = '{}'\n[tls_key]\nadmin = '{}'\n{more}",
            of("cert.pem"),
            of("key.pem")
        );
        std::fs::write(&config, text).unwrap();
    };
    write(&old, "");
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    assert_eq!(old.ask(&server, false).unwrap().0, 200);
    write(&old, "[tls_client_ca]\nadmin = 'nowhere.pem'\n");
    server.signal("HUP");
    server.until_it_says("what was there stays");
    assert_eq!(old.ask(&server, false).unwrap().0, 200);
    write(&new, &format!("[tls_client_ca]\nadmin = '{}'\n", new.file("ca.pem").display()));
    server.signal("HUP");
    server.until_it_says("were read again");
    assert!(old.ask(&server, false).is_err() && new.ask(&server, false).is_err());
    assert_eq!(new.ask(&server, true).unwrap().0, 200);
}

#[test]
fn a_client_that_speaks_plain_to_a_tls_listener_costs_its_own_connection() {
    let paper = Paper::new();
    let server = paper.start(false);
    let mut plain = TcpStream::connect(server.address("admin")).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(paper.ask(&server, false).unwrap().0, 200);
}

#[test]
fn a_certificate_file_without_a_certificate_ends_the_start() {
    let folder = Scratch::new();
    std::fs::write(folder.path("empty.pem"), "").unwrap();
    let file = format!("admin={}", folder.path("empty.pem").display());
    let output = crate::process::serve(&folder.path("data"), &folder.path("ready"))
        .args(["--tls-cert", &file, "--tls-key", &file])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let why = crate::process::text(&output.stderr);
    assert!(why.contains("empty.pem"), "{why}");
}

#[test]
fn an_amqp_client_logs_in_by_its_certificate() {
    let paper = Paper::new();
    let of = |name: &str| format!("amqp={}", paper.file(name).display());
    let (cert, key, ca) = (of("cert.pem"), of("key.pem"), of("ca.pem"));
    let server = Server::start(&[
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-client-ca",
        &ca,
        "--amqp-login-from",
        "dns",
    ]);
    let mut stream = paper.connect(&server, "amqp", true).unwrap();
    stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    let frame = |stream: &mut dyn Read| {
        let mut head = [0; 7];
        stream.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut rest = vec![0; len + 1];
        stream.read_exact(&mut rest).unwrap();
        rest
    };
    let start = frame(&mut stream);
    let offered = b"AMQPLAIN EXTERNAL PLAIN";
    assert!(start.windows(offered.len()).any(|bytes| bytes == offered));
    // connection.start-ok: no properties, the mechanism, no response, a locale.
    let mut start_ok = vec![0, 10, 0, 11, 0, 0, 0, 0, 8];
    start_ok.extend_from_slice(b"EXTERNAL\x00\x00\x00\x00\x05en_US");
    let mut out = vec![1, 0, 0];
    out.extend_from_slice(&(start_ok.len() as u32).to_be_bytes());
    out.extend_from_slice(&start_ok);
    out.push(0xce);
    stream.write_all(&out).unwrap();
    assert_eq!(frame(&mut stream)[..4], [0, 10, 0, 30], "connection.tune");
}

#[test]
fn half_a_handshake_does_not_hold_the_shutdown_up() {
    let paper = Paper::new();
    let mut server = paper.start_with(false, &["--shutdown-deadline-ms", "600000"]);
    let mut half = TcpStream::connect(server.address("admin")).unwrap();
    half.write_all(&[0x16, 3, 1]).unwrap();
    // Behind the other one, and through.
    drop(paper.connect(&server, "admin", false).unwrap().write(b"GET / HTTP/1.1\r\n"));
    assert_eq!(server.stop(), 0, "{}", server.log());
}

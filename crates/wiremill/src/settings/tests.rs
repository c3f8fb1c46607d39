use std::path::{Path, PathBuf};

use super::{raw::Raw, *};
use crate::listeners::ListenerName;

fn from_file(text: &str) -> Result<Settings, Refused> {
    let mut raw = Raw::default();
    raw.file(Path::new("w.toml"), text)?;
    Settings::from_raw(&raw)
}

fn from_flags(flags_given: &[&str]) -> Result<Settings, Refused> {
    let matches = clap::Command::new("wiremill")
        .args(flags())
        .try_get_matches_from(std::iter::once(&"wiremill").chain(flags_given))
        .unwrap();
    let mut raw = Raw::default();
    raw.arguments(&matches)?;
    Settings::from_raw(&raw)
}

fn refusal(outcome: Result<Settings, Refused>) -> String {
    outcome.unwrap_err().0
}

#[test]
fn nothing_typed_gives_the_defaults() {
    let settings = from_file("").unwrap();
    assert_eq!(settings.data_dir, Some(PathBuf::from("./wiremill-data")));
    assert_eq!(settings.listen.len(), 10);
    let kafka = Listen::On { host: "127.0.0.1".to_owned(), port: 9092 };
    assert_eq!(settings.listen[&ListenerName::Kafka], kafka);
    assert_eq!(settings.memory_budget_len, 512 << 20);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    assert_eq!(
        refusal(from_file("data_dri = 'x'")),
        "w.toml: there is no setting \"data_dri\"; did you mean data_dir?"
    );
    assert_eq!(refusal(from_file("zzzzzzzz = 1")), "w.toml: there is no setting \"zzzzzzzz\"");
    assert_eq!(
        refusal(from_file("[listen]\nkafak = 'off'")),
        "w.toml: listen: there is no listener \"kafak\"; did you mean kafka?"
    );
    assert_eq!(
        refusal(from_flags(&["--listen", "ntas=off"])),
        "--listen: there is no listener \"ntas\"; did you mean nats?"
    );
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_the_file() {
    let mut raw = Raw::default();
    raw.file(Path::new("w.toml"), "connections_max = 1\ndefault_partitions = 1\nlog_level = 'warn'").unwrap();
    let variables =
        [("WIREMILL_CONNECTIONS_MAX", "2"), ("WIREMILL_DEFAULT_PARTITIONS", "2"), ("PATH", "/bin")];
    raw.environment(variables.map(|(name, text)| (name.to_owned(), text.to_owned()))).unwrap();
    let matches =
        clap::Command::new("w").args(flags()).try_get_matches_from(["w", "--connections-max=3"]).unwrap();
    raw.arguments(&matches).unwrap();
    let settings = Settings::from_raw(&raw).unwrap();
    assert_eq!((settings.connections_max, settings.default_partitions), (3, 2));
    assert_eq!(settings.log_level, "warn");
}

#[test]
fn a_variable_can_name_a_listener_and_a_slip_is_mentioned() {
    let mut raw = Raw::default();
    let variables = [
        ("WIREMILL_LISTEN_RABBITMQ_ADMIN", "off"),
        ("WIREMILL_DATADIR", "x"),
        ("WIREMILL_LISTEN", "kafka=127.0.0.1:1"),
        ("WIREMILL_LISTEN_KAFAK", "127.0.0.1:1"),
        ("WIREMILL_TLS_CERT_RABBITMQ_ADMN", "x"),
        ("WIREMILL_SERVICE_HOST", "10.0.0.1"),
    ];
    raw.environment(variables.map(|(name, text)| (name.to_owned(), text.to_owned()))).unwrap();
    let settings = Settings::from_raw(&raw).unwrap();
    assert_eq!(settings.listen[&ListenerName::RabbitmqAdmin], Listen::Off);
    let slip =
        |typed: &str, meant: &str| format!("WIREMILL_{typed} is no setting; did you mean WIREMILL_{meant}?");
    let slips = [
        slip("DATADIR", "DATA_DIR"),
        slip("LISTEN", "LISTEN_KAFKA"),
        slip("LISTEN_KAFAK", "LISTEN_KAFKA"),
        slip("TLS_CERT_RABBITMQ_ADMN", "TLS_CERT_RABBITMQ_ADMIN"),
    ];
    assert_eq!(settings.warnings, slips);
}

#[test]
fn a_number_out_of_bounds_is_refused_with_its_bounds_and_source() {
    let text = refusal(from_flags(&["--default-partitions", "10001"]));
    assert_eq!(
        text,
        "--default-partitions: default_partitions = \"10001\" must be a whole number of partitions from 1 to 10000"
    );
    assert!(from_flags(&["--default-partitions", "10000"]).is_ok());
    assert!(from_flags(&["--default-partitions", "9999"]).is_ok());
    assert!(from_flags(&["--default-partitions", "0"]).is_err());
}

#[test]
fn bytes_understand_binary_suffixes() {
    assert_eq!(from_file("memory_budget_len = '1GiB'").unwrap().memory_budget_len, 1 << 30);
    assert_eq!(from_file("memory_budget_len = 16777216").unwrap().memory_budget_len, 16 << 20);
    assert!(from_file("memory_budget_len = 16777215").is_err());
    assert!(from_file("memory_budget_len = '99999999999999999GiB'").is_err());
}

#[test]
fn addresses_are_host_and_port() {
    let listen = |text: &str| {
        from_flags(&["--listen", &format!("kafka={text}")]).map(|s| s.listen[&ListenerName::Kafka].clone())
    };
    assert_eq!(listen("[::1]:0").unwrap(), Listen::On { host: "::1".to_owned(), port: 0 });
    assert_eq!(listen("localhost:9092").unwrap(), Listen::On { host: "localhost".to_owned(), port: 9092 });
    for wrong in ["9092", ":9092", "::1:9092", "host:", "host:99999", ""] {
        assert!(listen(wrong).unwrap_err().0.contains("is not HOST:PORT"), "{wrong}");
    }
}

#[test]
fn a_switch_may_stand_alone_or_say_false() {
    assert!(from_flags(&["--insecure"]).unwrap().insecure);
    assert!(!from_flags(&["--insecure=false"]).unwrap().insecure);
    assert!(refusal(from_flags(&["--insecure=perhaps"])).contains("neither true nor false"));
}

#[test]
fn an_ephemeral_run_takes_a_folder_of_its_own_unless_one_is_given() {
    assert_eq!(from_flags(&["--ephemeral"]).unwrap().data_dir, None);
    assert_eq!(from_flags(&[]).unwrap().data_dir, Some(PathBuf::from("./wiremill-data")));
    for flags in [&["--data-dir", ""][..], &["--ephemeral", "--data-dir", ""]] {
        assert_eq!(refusal(from_flags(flags)), "--data-dir: data_dir = \"\" names no folder");
    }
    assert_eq!(from_flags(&["--ephemeral", "--data-dir", "d"]).unwrap().data_dir, Some(PathBuf::from("d")));
}

#[test]
fn tls_takes_a_certificate_and_its_key() {
    let both = from_flags(&["--tls-cert", "kafka=c.pem", "--tls-key", "kafka=k.pem"]).unwrap();
    assert_eq!(both.tls[&ListenerName::Kafka].key, PathBuf::from("k.pem"));
    assert!(refusal(from_flags(&["--tls-cert", "kafka=c.pem"])).contains("needs both"));
    assert!(refusal(from_flags(&["--tls-client-ca", "kafka=c.pem"])).contains("needs both"));
}

#[test]
fn every_default_satisfies_its_own_bounds() {
    for entry in ENTRIES {
        if entry.default.is_empty() {
            continue;
        }
        let given = format!("{} = {:?}", entry.key, entry.default);
        assert!(from_file(&given).is_ok(), "{given}");
    }
}

#[test]
fn the_reference_page_is_what_the_list_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let page = page::render();
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == page, "docs/settings.md is stale; see its first lines for how to write it anew");
}

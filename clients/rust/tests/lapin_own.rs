//! The tests that ship in lapin's package, as they are: the package is the one that the lock file pins by its checksum.

use std::process::Command;

use clients::{amqp, shows};

/// Tests that may fail here, each with the reason; a test that is listed and passes fails this one.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// Fewer than this, and they were not found.
const TESTS_MIN: usize = 12;

#[test]
fn lapins_own_tests_pass() {
    let _shows = shows("AMQP", "lapin", "the tests that ship with the client, but for the listed exceptions");
    let manifest = lapins_manifest();
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--locked",
            "--no-fail-fast",
            "--no-default-features",
            "--features",
            "tokio",
            "--tests",
        ])
        .args([
            "--manifest-path",
            &manifest,
            "--target-dir",
            concat!(env!("CARGO_MANIFEST_DIR"), "/target/lapin"),
        ])
        .env("AMQP_ADDR", amqp())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let results: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter(|(name, _)| *name != "result:")
        .collect();
    assert!(results.len() >= TESTS_MIN, "{results:?}\n{}", String::from_utf8_lossy(&output.stderr));
    for (name, result) in results {
        let is_listed = EXCEPTIONS.iter().any(|(listed, _)| *listed == name);
        assert_eq!(result == "ok", !is_listed, "{name}: {result}\n{text}");
    }
}

/// Where the package lies that the lock file names.
fn lapins_manifest() -> String {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let lapin = packages.iter().find(|package| package["name"] == "lapin").expect("lapin among them");
    lapin["manifest_path"].as_str().expect("a path").to_owned()
}

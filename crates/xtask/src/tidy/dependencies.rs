//! Who may depend on whom (DESIGN §8), read from `cargo metadata`.

use super::Complaints;
use serde_json::Value;

const BASE: &[&str] = &["model", "wire", "env"];
const SPINE: &[&str] = &["model", "wire", "env", "store", "cursor", "route", "broker"];
/// What a protocol slice sees of the spine.
const SLICE: &[&str] = &["model", "wire", "broker"];
/// What tests of any crate may use beside that: the world they run in.
const TESTS: &[&str] = &["env", "sim"];

/// What a crate may depend on within the workspace; `None` for a crate that may use everything.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "model" | "wire" | "env" | "xtask" => Some(&[]),
        "store" | "cursor" | "route" => Some(BASE),
        "broker" => Some(&["model", "wire", "env", "store", "cursor", "route"]),
        "sim" => Some(SPINE),
        "wiremill" | "bench" => None,
        _ => Some(SLICE),
    }
}

pub fn direction(metadata: &Value) -> Complaints {
    let members = members(metadata);
    let names: Vec<&str> = members.iter().map(|package| text(package, "name")).collect();
    let mut complaints = Complaints::new();
    for package in &members {
        let name = text(package, "name");
        let Some(allowed) = allowed(name) else { continue };
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            let for_tests = text(dependency, "kind") == "dev";
            let fine = allowed.contains(&on) || (for_tests && (TESTS.contains(&on) || on == name));
            if names.contains(&on) && !fine {
                complaints.push(format!("{name} may not depend on {on}"));
            }
        }
    }
    complaints
}

/// The feature that plants faults is turned on by `sim` and by nothing else.
pub fn planted_faults(metadata: &Value) -> Complaints {
    const FEATURE: &str = "planted-faults";
    let mut complaints = Complaints::new();
    for package in members(metadata).into_iter().filter(|package| text(package, "name") != "sim") {
        let name = text(package, "name");
        for dependency in list(package, "dependencies") {
            if list(dependency, "features").iter().any(|feature| feature == FEATURE) {
                complaints.push(format!("{name} enables {FEATURE} of {}", text(dependency, "name")));
            }
        }
        let features = package.get("features").and_then(Value::as_object).into_iter().flatten();
        for (feature, enabled) in features.filter(|(feature, _)| *feature != FEATURE) {
            let planted = enabled.as_array().into_iter().flatten().filter_map(Value::as_str);
            if planted.into_iter().any(|enabled| enabled.rsplit('/').next() == Some(FEATURE)) {
                complaints.push(format!("feature {feature} of {name} enables {FEATURE}"));
            }
        }
    }
    complaints
}

/// Packages of this workspace: those without a registry to come from.
fn members(metadata: &Value) -> Vec<&Value> {
    list(metadata, "packages")
        .iter()
        .filter(|package| package.get("source").is_none_or(Value::is_null))
        .collect()
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind, "features": []}))
            .collect();
        json!({"name": name, "source": null, "dependencies": dependencies, "features": {}})
    }

    fn complaints(packages: &[Value]) -> Complaints {
        direction(&json!({ "packages": packages }))
    }

    #[test]
    fn a_slice_may_not_see_the_store_or_another_slice() {
        let store = package("store", &[]);
        let amqp = package("amqp", &[]);
        let kafka = package("kafka", &[("store", None), ("amqp", None), ("serde", None)]);
        assert_eq!(
            complaints(&[store, amqp, kafka]),
            ["kafka may not depend on store", "kafka may not depend on amqp"]
        );
    }

    #[test]
    fn tests_may_use_the_simulated_world() {
        let packages =
            [package("env", &[]), package("broker", &[]), package("kafka", &[("env", Some("dev"))])];
        assert!(complaints(&packages).is_empty());
        let packages = [package("env", &[]), package("kafka", &[("env", None)])];
        assert_eq!(complaints(&packages), ["kafka may not depend on env"]);
    }

    #[test]
    fn only_the_simulator_plants_faults() {
        let using = |name: &str| {
            let dependencies = [json!({"name": "store", "kind": null, "features": ["planted-faults"]})];
            json!({"packages": [{"name": name, "source": null, "dependencies": dependencies, "features": {}}]})
        };
        assert!(planted_faults(&using("sim")).is_empty());
        assert_eq!(planted_faults(&using("wiremill")).len(), 1);
        let default = json!({"packages": [{"name": "broker", "source": null, "dependencies": [],
            "features": {"default": ["store/planted-faults"], "planted-faults": ["store/planted-faults"]}}]});
        assert_eq!(planted_faults(&default).len(), 1);
    }
}

//! Queues whose messages have no place to go to when nobody can work them off.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, Verdict, finding};
use crate::settings::Settings;

/// Names that a finding lists.
const NAMED_MAX: usize = 10;

/// Looks at the queues that are declared, and at those of a running server as its admin API lists them.
pub fn examine(settings: &Settings, running: Option<&Value>) -> Option<Finding> {
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    let rows = running.and_then(|answer| answer["queues"].as_array());
    for row in rows.into_iter().flatten() {
        let target = row["dead_letter"].as_str().map(|target| target.trim_start_matches("queue:").to_owned());
        all.insert(row["name"].as_str().unwrap_or_default().to_owned(), target);
    }
    for queue in &settings.queues {
        let by_default = (settings.aws_default_dead_letter_count > 0).then(|| format!("{}.dlq", queue.name));
        let known = all.entry(queue.name.clone()).or_default();
        *known = queue.dead_letter.clone().or(known.take()).or(by_default);
    }
    let targets: BTreeSet<&String> = all.values().flatten().collect();
    if all.is_empty() {
        return None;
    }
    let lone = all.iter().filter(|(name, target)| target.is_none() && !targets.contains(name));
    let lone: Vec<&str> = lone.map(|(name, _)| name.as_str()).collect();
    let what = "dead letters of queues";
    if lone.is_empty() {
        return Some(finding(Verdict::Good, what, "every queue has a dead-letter queue, or is one"));
    }
    let named: Vec<&str> = lone.iter().take(NAMED_MAX).copied().collect();
    let more = match lone.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(finding(
        Verdict::Beware,
        what,
        format!(
            "none for {}{more}: what cannot be worked off is offered until it is too old (a redrive policy, dead_letter or aws_default_dead_letter_count gives them one)",
            named.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Queue, Raw};

    fn examined(queues: Vec<Queue>, running: Option<Value>) -> Option<(Verdict, String)> {
        let settings = Settings { queues, ..Settings::from_raw(&Raw::default()).unwrap() };
        examine(&settings, running.as_ref()).map(|one| (one.verdict, one.finding))
    }

    #[test]
    fn queues_without_a_dead_letter_queue_are_named_and_those_that_are_one_are_not() {
        assert_eq!(examined(Vec::new(), None), None);
        let running = json!({ "queues": [
            { "name": "jobs", "dead_letter": "queue:dead" },
            { "name": "dead", "dead_letter": null },
            { "name": "mail", "dead_letter": null },
        ] });
        let declared = Queue { name: "orders".to_owned(), ..Queue::default() };
        let (verdict, text) = examined(vec![declared], Some(running)).unwrap();
        assert_eq!(verdict, Verdict::Beware);
        assert!(text.starts_with("none for mail, orders: "), "{text}");
        let fine =
            json!({ "queues": [{ "name": "a", "dead_letter": "b" }, { "name": "b", "dead_letter": null }] });
        assert_eq!(examined(Vec::new(), Some(fine)).unwrap().0, Verdict::Good);
    }
}

//! Queues of the settings file, and what is said of queues beside their messages.

use serde_json::json;

use crate::{
    client::Client,
    process::{Scratch, Server},
};

#[test]
fn declared_queues_are_there_from_the_start_and_their_age_is_told() {
    let folder = Scratch::new();
    let file = folder.path("wiremill.toml");
    let text = "[queues.jobs]\nlease = \"7s\"\ndead_letter = \"dead\"\n[queues.dead]\n\
                [queues.\"orders.fifo\"]\ncontent_dedup = true\n";
    std::fs::write(&file, text).unwrap();
    let server = Server::start_in(folder, &["--config", file.to_str().unwrap()]);
    let mut client = Client::connect(server.address("aws"));
    client.put("jobs", "a");
    let asked = json!({ "QueueUrl": "jobs", "AttributeNames": ["VisibilityTimeout", "RedrivePolicy"] });
    let shown = client.ask("GetQueueAttributes", asked);
    assert_eq!(shown["Attributes"]["VisibilityTimeout"], "7");
    assert!(shown["Attributes"]["RedrivePolicy"].as_str().unwrap().contains(":dead\""), "{shown}");
    let sent = json!({ "QueueUrl": "orders.fifo", "MessageBody": "b", "MessageGroupId": "g" });
    assert!(client.ask("SendMessage", sent)["SequenceNumber"].is_string());

    let of = |queue: &str| format!("{{namespace=\"public/default\",queue=\"{queue}\"");
    let metric = |name: String| {
        let (status, metrics) = server.get("/metrics");
        assert_eq!(status, 200);
        let line = metrics.lines().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // Told in milliseconds: it rises.
    while metric(format!("wiremill_queue_oldest_age_seconds{}", of("jobs"))) == 0.0 {}
    assert!(metric(format!("wiremill_queue_oldest_age_seconds{}", of("dead"))) == 0.0);
    assert!(metric(format!("wiremill_queue_records{},state=\"ready\"", of("jobs"))) == 1.0);
}

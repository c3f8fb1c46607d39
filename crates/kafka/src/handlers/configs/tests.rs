use broker::StreamSettings;

use super::*;
use crate::{
    codec::{api::incremental_alter_configs::AlterConfigsResource, encode_response},
    testing::Rig,
};

#[tokio::test]
async fn an_answer_that_is_written_piece_by_piece_is_the_one_that_its_structure_says() {
    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    let ctx = rig.ctx(4);
    let resource = |resource_type, resource_name| DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource(TOPIC, "t"), resource(BROKER, "1"), resource(TOPIC, "t"), resource(7, "")],
        include_synonyms: true,
        include_documentation: true,
    };
    let results = [0, 1, 3].map(|at| described(&ctx, &request.resources[at], &request)).to_vec();
    let whole = DescribeConfigsResponse { results, ..Default::default() };
    for number in 1..=4 {
        let version = ApiKey::DescribeConfigs.api().version(number);
        let written = describe_configs(&ctx, request.clone(), version, 5).await.into_bytes();
        assert_eq!(written, encode_response(ApiKey::DescribeConfigs, number, 5, &whole).into_bytes());
    }
}

/// Each resource was looked for among all: minutes for these.
#[tokio::test]
async fn many_resources_are_checked_in_the_time_that_it_takes_to_read_them() {
    let rig = Rig::new();
    let names: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let resource =
        |name| AlterConfigsResource { resource_type: BROKER, resource_name: name, configs: Vec::new() };
    let mut resources: Vec<_> = names.iter().map(|name| resource(name.as_str())).collect();
    resources.push(resource("7"));
    let began = tokio::time::Instant::now();
    let request = IncrementalAlterConfigsRequest { resources, validate_only: true };
    let answer = incremental_alter_configs(&rig.ctx(1), request).await;
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let why = |index: usize| answer.responses[index].error_message.as_deref().unwrap_or_default();
    let twice = "Each resource must appear at most once.";
    assert_eq!((why(7), why(100_000)), (twice, twice));
    assert_ne!(why(8), twice);
}

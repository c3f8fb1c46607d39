//! CreateTopics, and creation by asking (`auto.create.topics.enable`).

use std::{collections::BTreeMap, sync::Arc};

use broker::{Action, Facets, Stream, StreamSettings, StreamSpec};
use model::{ErrorKind, Seq, limits};

use super::{
    cluster::METADATA_TOPIC,
    metadata::{Created, topic_id},
    named_twice, once_each,
};
use crate::{
    codec::{
        ErrorCode, Str,
        api::create_topics::{
            CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
            CreateTopicsResponse,
        },
    },
    configs::{self, TOPIC_CONFIGS, settings_of, topic_config, values_of, with_replicas},
    errors,
    session::Ctx,
    topics,
};

/// Largest replication factor that is taken where any is: each replica is named in every answer about the topic.
const REPLICAS_MAX: i16 = 32;

/// A code with the sentence that goes with it.
pub(crate) type Refused = (ErrorCode, String);

/// What a request asks for, checked.
struct Plan {
    partitions: u32,
    replicas: i16,
    settings: StreamSettings,
}

/// Most partitions that one request may create, all topics together (the original's limit).
pub(crate) const PARTITIONS_PER_REQUEST_MAX: u64 = 10_000;

fn partitions_asked_for(ctx: &Ctx, request: &CreateTopicsRequest<'_>) -> u64 {
    let of_topic = |topic: &CreatableTopic<'_>| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as u64,
        -1 => u64::from(ctx.server.options.num_partitions),
        // What is not a count is refused topic by topic.
        count => u64::try_from(count).unwrap_or(0),
    };
    request.topics.iter().map(of_topic).fold(0, u64::saturating_add)
}

pub(crate) async fn create_topics(
    ctx: &Ctx,
    request: CreateTopicsRequest<'_>,
) -> CreateTopicsResponse<'static> {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut staged = Seq(0);
    let twice = named_twice(&request.topics, |topic| topic.name);
    let too_many = partitions_asked_for(ctx, &request) > PARTITIONS_PER_REQUEST_MAX;
    for topic in once_each(&request.topics, |topic| topic.name) {
        let result = match twice.contains(topic.name) {
            true => Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned())),
            false if too_many => Err((
                ErrorCode::POLICY_VIOLATION,
                "Excessively large number of partitions per request.".to_owned(),
            )),
            false => create(ctx, topic, request.validate_only, &mut staged),
        };
        results.push(result.unwrap_or_else(|(error_code, message)| CreatableTopicResult {
            name: topic.name.to_owned().into(),
            error_code,
            error_message: Some(message.into()),
            configs: Some(Vec::new()),
            ..Default::default()
        }));
    }
    // Many topics are one wait.
    if let Err(e) = ctx.server.broker.durable(staged).await {
        for result in results.iter_mut().filter(|r| r.error_code == ErrorCode::NONE) {
            result.error_code = errors::of(&e);
            result.error_message = Some(e.text().to_owned().into());
        }
    }
    CreateTopicsResponse { topics: results, ..Default::default() }
}

fn create(
    ctx: &Ctx,
    topic: &CreatableTopic<'_>,
    validate_only: bool,
    staged: &mut Seq,
) -> Result<CreatableTopicResult<'static>, Refused> {
    let plan = check(ctx, topic)?;
    let partitions = i32::try_from(plan.partitions).unwrap_or(i32::MAX);
    let mut result = CreatableTopicResult {
        name: topic.name.to_owned().into(),
        num_partitions: partitions,
        replication_factor: plan.replicas,
        configs: Some(shown_configs(&plan.settings)),
        ..Default::default()
    };
    if validate_only {
        return Ok(result);
    }
    let spec = StreamSpec { partitions: plan.partitions, settings: plan.settings, facets: Facets::default() };
    let created = ctx.server.broker.stage_create_stream(ctx.log_key(topic.name), spec);
    let (stream, seq) = created.map_err(|e| match e.kind() {
        ErrorKind::Exists => already_exists(topic.name),
        _ => (errors::of(&e), e.text().to_owned()),
    })?;
    *staged = (*staged).max(seq);
    result.topic_id = topic_id(&stream);
    Ok(result)
}

fn already_exists(name: &str) -> Refused {
    (ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists."))
}

fn check(ctx: &Ctx, topic: &CreatableTopic<'_>) -> Result<Plan, Refused> {
    if !ctx.allows(Action::Configure, topic.name) {
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".to_owned()));
    }
    if let Some(why) = topics::invalid_name(topic.name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
    }
    if topic.name == METADATA_TOPIC {
        let why = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err((ErrorCode::INVALID_REQUEST, why));
    }
    if ctx.server.broker.stream(&ctx.log_key(topic.name)).is_some() {
        return Err(already_exists(topic.name));
    }
    if let Some(other) = topics::colliding(&ctx.server.broker, &ctx.namespace(), topic.name) {
        let why = format!("Topic '{}' collides with existing topic: {other}", topic.name);
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
    }
    let mut values = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.ok_or_else(|| {
            let why = format!("Null value not supported for topic configs: {}", config.name);
            (ErrorCode::INVALID_CONFIG, why)
        })?;
        check_config(config.name, value)?;
        values.insert(config.name.to_owned(), value.to_owned());
    }
    let (partitions, replicas) = placement(ctx, topic)?;
    let settings = settings_of(StreamSettings::default(), &values);
    Ok(Plan { partitions, replicas, settings: with_replicas(settings, replicas) })
}

/// Checks one configuration by its name, value and effect.
pub(crate) fn check_config(name: &str, value: &str) -> Result<(), Refused> {
    let invalid = |why: String| (ErrorCode::INVALID_CONFIG, why);
    let config = topic_config(name).ok_or_else(|| invalid(format!("Unknown topic config name: {name}")))?;
    config.check(value).map_err(invalid)
}

/// How many partitions and replicas: given, as a manual assignment, or by default (-1, KIP-464).
fn placement(ctx: &Ctx, topic: &CreatableTopic<'_>) -> Result<(u32, i16), Refused> {
    let options = &ctx.server.options;
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let why = "Both numPartitions or replicationFactor and replicasAssignments were set.";
            return Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
        }
        let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
        indexes.sort_unstable();
        let consecutive = indexes.iter().enumerate().all(|(at, index)| i32::try_from(at) == Ok(*index));
        let here = topic.assignments.iter().all(|a| a.broker_ids == [options.node_id]);
        if !consecutive || !here {
            let why =
                format!("Replicas can only be assigned to node {}, partitions from 0 on.", options.node_id);
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, why));
        }
        return Ok((partition_count(i32::try_from(indexes.len()).unwrap_or(i32::MAX))?, 1));
    }
    let partitions = match topic.num_partitions {
        -1 => Ok(options.num_partitions),
        count => partition_count(count),
    };
    let replicas = match topic.replication_factor {
        -1 | 1 => 1,
        more if more > 1 && more <= REPLICAS_MAX && options.accept_replicas => more,
        more if more > 1 => {
            // The original looks for brokers when everything else is right.
            partitions?;
            let why = format!(
                "Unable to replicate the partition {more} time(s): The target replication factor of {more} cannot be reached because only 1 broker(s) are registered."
            );
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
        }
        _ => {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why.to_owned()));
        }
    };
    Ok((partitions?, replicas))
}

fn partition_count(count: i32) -> Result<u32, Refused> {
    match u32::try_from(count) {
        Ok(count) if (1..=limits::PARTITIONS_MAX).contains(&count) => Ok(count),
        Ok(0) | Err(_) => {
            let why = "Number of partitions was set to an invalid non-positive value.";
            Err((ErrorCode::INVALID_PARTITIONS, why.to_owned()))
        }
        Ok(_) => {
            let why = format!("A topic has at most {} partitions here.", limits::PARTITIONS_MAX);
            Err((ErrorCode::INVALID_PARTITIONS, why))
        }
    }
}

fn shown_configs(settings: &StreamSettings) -> Vec<CreatableTopicConfigs<'static>> {
    let set = values_of(settings);
    let shown = |config: &configs::Config| CreatableTopicConfigs {
        name: config.name.into(),
        value: Some(set.get(config.name).map_or(Str::from(config.default), |value| value.clone().into())),
        read_only: false,
        config_source: if set.contains_key(config.name) {
            super::configs::DYNAMIC_TOPIC
        } else {
            super::configs::DEFAULT
        },
        is_sensitive: false,
    };
    TOPIC_CONFIGS.iter().map(shown).collect()
}

/// Creates the topic that somebody asked for; one that another made meanwhile is as good. It is in `created` what is to be
/// waited for.
pub(crate) fn auto_create(ctx: &Ctx, name: &str, created: &mut Created) -> Result<Arc<Stream>, ErrorCode> {
    if !ctx.allows(Action::Configure, name) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    if name == METADATA_TOPIC || topics::colliding(&ctx.server.broker, &ctx.namespace(), name).is_some() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partitions = ctx.server.options.num_partitions;
    if created.partitions + u64::from(partitions) > PARTITIONS_PER_REQUEST_MAX {
        // As of one that is on its way: clients ask again, and get the next ones.
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let settings = settings_of(StreamSettings::default(), &BTreeMap::new());
    let spec = StreamSpec { partitions, settings, facets: Facets::default() };
    match ctx.server.broker.stage_create_stream(ctx.log_key(name), spec) {
        Ok((stream, seq)) => {
            created.staged = created.staged.max(seq);
            created.partitions += u64::from(partitions);
            Ok(stream)
        }
        Err(e) if e.kind() == ErrorKind::Exists => {
            topics::find(&ctx.server, &ctx.namespace(), name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        Err(e) => Err(errors::of(&e)),
    }
}

#[cfg(test)]
mod tests;

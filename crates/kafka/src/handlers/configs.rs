//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use broker::{Action, StreamSettings};
use model::{Error, Seq, StreamKey};
use wire::Writer;

use super::{
    NamedTopic,
    create_topics::{Refused, check_config},
    metadata::may_describe,
    named_twice, once_each,
    topics::{not_durable, pace},
};
use crate::{
    auth::MECHANISMS,
    codec::{
        ApiKey, ErrorCode, Field, Str, Version,
        api::{
            alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse},
            describe_configs::{
                DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
                DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
            },
            incremental_alter_configs::{
                self, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
            },
            list_config_resources::{
                ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
            },
        },
        begin_response, end_frame, write_list_len,
    },
    configs::{
        BROKER_CONFIGS, Config, Kind as ConfigKind, OTHER_BROKER_CONFIGS, TOPIC_CONFIGS, settings_of,
        topic_config, values_of,
    },
    errors,
    session::Ctx,
    topics,
};

/// `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// Every type that there is (the last two are client metrics and groups); of some there is nothing here.
const RESOURCE_TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, 16, 32];

/// `DescribeConfigsResponse.ConfigSource`.
pub(crate) const DYNAMIC_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
pub(crate) const DEFAULT: i8 = 5;

/// Resources of an answer between which others have their turn.
const DESCRIBED_AT_A_TIME: usize = 64;

/// The whole answer as it is sent. Each resource is written as soon as it is described: rows of many topics would take a
/// multiple of what they are on the wire.
pub(crate) async fn describe_configs(
    ctx: &Ctx,
    request: DescribeConfigsRequest<'_>,
    version: Version,
    correlation_id: i32,
) -> Writer {
    let mut writer = begin_response(ApiKey::DescribeConfigs, version, correlation_id);
    writer.i32(DescribeConfigsResponse::default().throttle_time_ms);
    let named = once_each(&request.resources, |resource| (resource.resource_type, resource.resource_name));
    let named: Vec<&DescribeConfigsResource<'_>> = named.collect();
    write_list_len(&mut writer, version, named.len());
    for (at, resource) in named.into_iter().enumerate() {
        described(ctx, resource, &request).write(&mut writer, version);
        if at % DESCRIBED_AT_A_TIME == DESCRIBED_AT_A_TIME - 1 {
            tokio::task::yield_now().await;
        }
    }
    if version.flexible {
        // No tagged fields.
        writer.uvarint(0);
    }
    end_frame(&mut writer);
    writer
}

fn described(
    ctx: &Ctx,
    resource: &DescribeConfigsResource<'_>,
    request: &DescribeConfigsRequest<'_>,
) -> DescribeConfigsResult<'static> {
    let described = describe(ctx, resource, request.include_synonyms, request.include_documentation);
    let (error_code, error_message, configs) = match described {
        Ok(configs) => (ErrorCode::NONE, None, configs),
        Err((code, why)) => (code, Some(why.into()), Vec::new()),
    };
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.to_owned().into(),
        configs,
    }
}

fn describe(
    ctx: &Ctx,
    resource: &DescribeConfigsResource<'_>,
    synonyms: bool,
    docs: bool,
) -> Result<Vec<DescribeConfigsResourceResult<'static>>, Refused> {
    let keys: HashSet<&str> = resource.configuration_keys.iter().flatten().copied().collect();
    let wanted = |name: &str| keys.is_empty() || keys.contains(name);
    match resource.resource_type {
        TOPIC => {
            let named = NamedTopic::find(ctx, resource.resource_name);
            let may = named.may_describe(ctx, resource.resource_name);
            let settings = topic_settings(&named, resource.resource_name, may)?.1;
            let set = values_of(&settings);
            let all = TOPIC_CONFIGS.iter().filter(|config| wanted(config.name));
            Ok(all.map(|config| topic_row(config, &set, synonyms, docs)).collect())
        }
        BROKER => {
            check_broker_name(ctx, resource.resource_name)?;
            // The empty name asks for cluster-wide dynamic defaults: there are none.
            if resource.resource_name.is_empty() {
                return Ok(Vec::new());
            }
            let values = broker_values(ctx);
            let all = all_broker_configs().filter(|config| wanted(config.name));
            Ok(all.map(|config| broker_row(&config, values.get(config.name), synonyms, docs)).collect())
        }
        BROKER_LOGGER => Err((ErrorCode::INVALID_REQUEST, "There are no broker loggers here.".to_owned())),
        other => Err((ErrorCode::INVALID_REQUEST, format!("Unsupported resource type: {other}"))),
    }
}

/// A topic's key and settings, for whoever `may` see or change them.
fn topic_settings(named: &NamedTopic, name: &str, may: bool) -> Result<(StreamKey, StreamSettings), Refused> {
    if !may {
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed.".to_owned()));
    }
    if let Some(why) = topics::invalid_name(name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
    }
    let stream = named.0.as_ref().ok_or_else(|| {
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.".to_owned())
    })?;
    Ok((stream.key().clone(), stream.settings().as_ref().clone()))
}

fn check_broker_name(ctx: &Ctx, name: &str) -> Result<(), Refused> {
    let node = ctx.server.options.node_id;
    if name.is_empty() || name == node.to_string() {
        return Ok(());
    }
    let why = format!("Unexpected broker id, expected {node} or empty string, but received {name}");
    Err((ErrorCode::INVALID_REQUEST, why))
}

fn topic_row(
    config: &'static Config,
    set: &BTreeMap<String, String>,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult<'static> {
    let own = set.get(config.name).cloned();
    let mut synonyms = Vec::new();
    if with_synonyms {
        if let Some(value) = &own {
            let value = Some(Str::from(value.clone()));
            synonyms.push(DescribeConfigsSynonym { name: config.name.into(), value, source: DYNAMIC_TOPIC });
        }
        if !config.synonym.is_empty() {
            let value = Some(config.default.into());
            synonyms.push(DescribeConfigsSynonym { name: config.synonym.into(), value, source: DEFAULT });
        }
    }
    DescribeConfigsResourceResult {
        name: config.name.into(),
        config_source: if own.is_some() { DYNAMIC_TOPIC } else { DEFAULT },
        value: Some(own.map_or(Str::from(config.default), Str::from)),
        read_only: false,
        is_sensitive: false,
        synonyms,
        config_type: config.kind.code(),
        documentation: docs.then(|| config.doc.into()),
    }
}

/// One configuration of the broker as it is shown.
struct BrokerConfig {
    name: &'static str,
    kind: ConfigKind,
    /// The original's default, if it has one.
    default: Option<&'static str>,
    doc: Option<&'static str>,
}

impl BrokerConfig {
    fn of(name: &'static str, config: &Config) -> Self {
        let default = Some(config.default).filter(|default| !default.is_empty());
        BrokerConfig { name, kind: config.kind, default, doc: Some(config.doc) }
    }
}

/// Every one of the original's: those that mean something here, the topics' under the names of their defaults, and the
/// rest.
fn all_broker_configs() -> impl Iterator<Item = BrokerConfig> {
    let own = BROKER_CONFIGS.iter().map(|config| BrokerConfig::of(config.name, config));
    let known = |name: &str| BROKER_CONFIGS.iter().any(|config| config.name == name);
    let of_topics = TOPIC_CONFIGS.iter().filter(move |c| !c.synonym.is_empty() && !known(c.synonym));
    let others = OTHER_BROKER_CONFIGS.iter().map(|(name, kind, default)| BrokerConfig {
        name,
        kind: *kind,
        default: *default,
        doc: None,
    });
    own.chain(of_topics.map(|config| BrokerConfig::of(config.synonym, config))).chain(others)
}

/// Values that come from this run's settings.
fn broker_values(ctx: &Ctx) -> BTreeMap<&'static str, String> {
    let options = &ctx.server.options;
    let (host, port) = ctx.advertised();
    let listener = format!("PLAINTEXT://{host}:{port}");
    let engine = ctx.server.broker.options();
    BTreeMap::from([
        ("advertised.listeners", listener.clone()),
        ("listeners", listener),
        ("broker.id", options.node_id.to_string()),
        ("node.id", options.node_id.to_string()),
        ("auto.create.topics.enable", options.auto_create_topics.to_string()),
        ("num.partitions", options.num_partitions.to_string()),
        ("process.roles", "broker,controller".to_owned()),
        ("sasl.enabled.mechanisms", MECHANISMS.join(",")),
        ("group.coordinator.rebalance.protocols", "classic".to_owned()),
        ("producer.id.expiration.ms", engine.producer_expiry_ms.to_string()),
        ("log.retention.check.interval.ms", engine.retention_interval_ms.to_string()),
        ("log.dirs", options.log_dir.clone()),
        ("connections.max.idle.ms", options.idle_max_ms.to_string()),
        ("socket.request.max.bytes", options.request_len_max.to_string()),
        ("offset.metadata.max.bytes", options.offset_metadata_len_max.to_string()),
        ("offsets.retention.minutes", options.offsets_retention_min.to_string()),
        ("group.min.session.timeout.ms", options.session_timeout_min_ms.to_string()),
        ("group.max.session.timeout.ms", options.session_timeout_max_ms.to_string()),
        ("group.max.size", options.group_size_max.to_string()),
        ("group.initial.rebalance.delay.ms", options.initial_rebalance_delay_ms.to_string()),
    ])
}

fn broker_row(
    config: &BrokerConfig,
    value: Option<&String>,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult<'static> {
    let own =
        value.filter(|value| Some(value.as_str()) != config.default).map(|value| Str::from(value.clone()));
    let default = config.default.map(Str::from);
    let mut synonyms = Vec::new();
    if with_synonyms {
        let synonym = |value: &Str<'static>, source| DescribeConfigsSynonym {
            name: config.name.into(),
            value: Some(value.clone()),
            source,
        };
        synonyms.extend(own.iter().map(|value| synonym(value, STATIC_BROKER)));
        synonyms.extend(default.iter().map(|value| synonym(value, DEFAULT)));
    }
    DescribeConfigsResourceResult {
        name: config.name.into(),
        config_source: if own.is_some() { STATIC_BROKER } else { DEFAULT },
        value: own.or(default),
        read_only: true,
        is_sensitive: config.kind == ConfigKind::Password,
        synonyms,
        config_type: config.kind.code(),
        documentation: config.doc.filter(|_| docs).map(Into::into),
    }
}

pub(crate) async fn alter_configs(
    ctx: &Ctx,
    request: AlterConfigsRequest<'_>,
) -> AlterConfigsResponse<'static> {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut staged = Seq(0);
    let twice = named_twice(&request.resources, |r| (r.resource_type, r.resource_name));
    for resource in &request.resources {
        pace(ctx, responses.len(), staged).await;
        // What is not named goes back to its default.
        let replace = |_: BTreeMap<String, String>| -> Result<BTreeMap<String, String>, Refused> {
            let mut values = BTreeMap::new();
            for config in &resource.configs {
                if let Some(value) = config.value {
                    values.insert(config.name.to_owned(), value.to_owned());
                }
            }
            Ok(values)
        };
        let kind = resource.resource_type;
        let configs = resource.configs.iter().map(|config| (config.name, config.value.is_none()));
        let refused = match check_shape(twice.contains(&(kind, resource.resource_name)), configs) {
            Err(refused) => Some(refused),
            Ok(()) => {
                let resource = (kind, resource.resource_name);
                alter(ctx, resource, request.validate_only, &mut staged, replace).err()
            }
        };
        responses.push(alter_configs::AlterConfigsResourceResponse {
            error_code: refused.as_ref().map_or(ErrorCode::NONE, |(code, _)| *code),
            error_message: refused.map(|(_, why)| why.into()),
            resource_type: kind,
            resource_name: resource.resource_name.to_owned().into(),
        });
    }
    if let Some((code, why)) = not_durable(ctx, staged).await {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::NONE) {
            (response.error_code, response.error_message) = (code, Some(why.clone().into()));
        }
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

pub(crate) async fn incremental_alter_configs(
    ctx: &Ctx,
    request: IncrementalAlterConfigsRequest<'_>,
) -> IncrementalAlterConfigsResponse<'static> {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut staged = Seq(0);
    let twice = named_twice(&request.resources, |r| (r.resource_type, r.resource_name));
    for resource in &request.resources {
        pace(ctx, responses.len(), staged).await;
        let change = |values: BTreeMap<String, String>| {
            resource.configs.iter().try_fold(values, |values, config| apply(values, config))
        };
        let kind = resource.resource_type;
        let lacks_value =
            |config: &AlterableConfig<'_>| config.config_operation != DELETE && config.value.is_none();
        let configs = resource.configs.iter().map(|config| (config.name, lacks_value(config)));
        let refused = match check_shape(twice.contains(&(kind, resource.resource_name)), configs) {
            Err(refused) => Some(refused),
            Ok(()) => {
                let resource = (kind, resource.resource_name);
                alter(ctx, resource, request.validate_only, &mut staged, change).err()
            }
        };
        responses.push(incremental_alter_configs::AlterConfigsResourceResponse {
            error_code: refused.as_ref().map_or(ErrorCode::NONE, |(code, _)| *code),
            error_message: refused.map(|(_, why)| why.into()),
            resource_type: kind,
            resource_name: resource.resource_name.to_owned().into(),
        });
    }
    if let Some((code, why)) = not_durable(ctx, staged).await {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::NONE) {
            (response.error_code, response.error_message) = (code, Some(why.clone().into()));
        }
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

/// What is wrong with a change whatever it is about: a resource or a name given twice, or a value that is missing. The
/// original looks at this before it looks at permissions.
fn check_shape<'a>(
    is_named_twice: bool,
    configs: impl Iterator<Item = (&'a str, bool)>,
) -> Result<(), Refused> {
    let invalid = |why: &str| Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
    if is_named_twice {
        return invalid("Each resource must appear at most once.");
    }
    let (mut seen, mut without_value) = (BTreeSet::new(), Vec::new());
    for (name, lacks_value) in configs {
        if !seen.insert(name) {
            return invalid("Error due to duplicate config keys");
        }
        if lacks_value {
            without_value.push(name);
        }
    }
    match without_value.is_empty() {
        true => Ok(()),
        false => invalid(&format!("Null value not supported for : {}", without_value.join(", "))),
    }
}

/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn apply(
    mut values: BTreeMap<String, String>,
    config: &AlterableConfig<'_>,
) -> Result<BTreeMap<String, String>, Refused> {
    let invalid = |why: String| (ErrorCode::INVALID_CONFIG, why);
    if config.config_operation == DELETE {
        // What nobody knows is not set either.
        values.remove(config.name);
        return Ok(values);
    }
    let known = topic_config(config.name)
        .ok_or_else(|| invalid(format!("Unknown topic config name: {}", config.name)))?;
    let given = || {
        let why = format!("Null value not supported for topic configs: {}", config.name);
        config.value.ok_or((ErrorCode::INVALID_REQUEST, why))
    };
    if matches!(config.config_operation, APPEND | SUBTRACT) && known.kind != ConfigKind::List {
        let operation = if config.config_operation == APPEND { "APPEND" } else { "SUBTRACT" };
        return Err(invalid(format!(
            "Can't {operation} to key {} because its type is not LIST.",
            config.name
        )));
    }
    let items = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    match config.config_operation {
        SET => {
            values.insert(config.name.to_owned(), given()?.to_owned());
        }
        APPEND | SUBTRACT => {
            let now = values.get(config.name).map_or(known.default, String::as_str);
            let mut list = items(now);
            let named = items(given()?);
            if config.config_operation == APPEND {
                let known: HashSet<String> = list.iter().cloned().collect();
                list.extend(named.into_iter().filter(|item| !known.contains(item)));
            } else {
                let named: HashSet<String> = named.into_iter().collect();
                list.retain(|item| !named.contains(item));
            }
            values.insert(config.name.to_owned(), list.join(","));
        }
        other => return Err((ErrorCode::INVALID_REQUEST, format!("Unknown operation type {other}"))),
    }
    Ok(values)
}

/// Changes one resource, or says why not. What it staged is told by `staged`.
fn alter(
    ctx: &Ctx,
    (kind, name): (i8, &str),
    validate_only: bool,
    staged: &mut Seq,
    change: impl Fn(BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refused>,
) -> Result<(), Refused> {
    match kind {
        TOPIC => {}
        BROKER => {
            check_broker_name(ctx, name)?;
            let why = "Broker settings are given at start and cannot be altered while it runs.";
            return Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
        }
        other => return Err((ErrorCode::INVALID_REQUEST, format!("Unsupported resource type: {other}"))),
    }
    let named = NamedTopic::find(ctx, name);
    let (key, settings) = topic_settings(&named, name, named.may(ctx, Action::Configure, name))?;
    if named.is_queue() {
        let why = "A queue is looked at here; it is configured where it was made.";
        return Err((ErrorCode::POLICY_VIOLATION, why.to_owned()));
    }
    let changed = |settings: &StreamSettings| -> Result<StreamSettings, Refused> {
        let values = change(values_of(settings))?;
        values.iter().try_for_each(|(name, value)| check_config(name, value))?;
        Ok(settings_of(settings.clone(), &values))
    };
    if validate_only {
        return changed(&settings).map(|_| ());
    }
    // Once more under the catalog's lock: of two changes at a time, none is lost.
    let mut refused = None;
    let altered = ctx.server.broker.stage_alter_stream(&key, |settings| match changed(settings) {
        Ok(changed) => {
            *settings = changed;
            Ok(())
        }
        Err(refusal) => {
            refused = Some(refusal);
            Err(Error::invalid("the configuration is refused"))
        }
    });
    let (_, seq) = altered.map_err(|e| refused.unwrap_or_else(|| (errors::of(&e), e.text().to_owned())))?;
    *staged = (*staged).max(seq);
    Ok(())
}

pub(crate) async fn list_config_resources(
    ctx: &Ctx,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse<'static> {
    if request.resource_types.iter().any(|kind| !RESOURCE_TYPES.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Default::default()
        };
    }
    // Version 0 asks for client metrics alone, of which there are none; later ones for what they list, or for all.
    let wanted = |kind: i8| {
        ctx.version >= 1 && (request.resource_types.is_empty() || request.resource_types.contains(&kind))
    };
    let resource =
        |resource_type: i8, name: String| ConfigResource { resource_name: name.into(), resource_type };
    let mut config_resources = Vec::new();
    if wanted(TOPIC) {
        let all = topics::list(&ctx.server.broker, &ctx.namespace());
        let known = all.iter().filter(|stream| may_describe(ctx, &stream.key().name));
        config_resources.extend(known.map(|stream| resource(TOPIC, topics::shown_name(stream.key()))));
    }
    if wanted(BROKER) {
        config_resources.push(resource(BROKER, ctx.server.options.node_id.to_string()));
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}

#[cfg(test)]
mod tests;

//! DescribeGroups, ListGroups, DeleteGroups and OffsetDelete.

use std::collections::HashSet;

use broker::{Action, CursorKey};
use model::Seq;

use super::{
    NamedTopic,
    metadata::group_operations,
    once_each,
    topics::{not_durable, pace},
};
use crate::{
    codec::{
        ErrorCode, Str,
        api::{
            delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
            describe_groups::{
                DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
            },
            list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
            offset_delete::{
                OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
                OffsetDeleteResponseTopic,
            },
        },
    },
    coordinator::{DeleteRefusal, GroupView, InUse},
    errors,
    session::Ctx,
};

/// Version from which a group that is not there is an error rather than "Dead" (KIP-1043).
const DEAD_IS_AN_ERROR_FROM: i16 = 6;

pub(crate) async fn describe_groups(
    ctx: &Ctx,
    request: DescribeGroupsRequest<'_>,
) -> DescribeGroupsResponse<'static> {
    let groups = once_each(&request.groups, |id| *id)
        .map(|id| {
            let mut group = describe(ctx, id);
            if request.include_authorized_operations && group.error_code == ErrorCode::NONE {
                group.authorized_operations = group_operations(ctx, id);
            }
            group
        })
        .collect();
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn describe(ctx: &Ctx, id: &str) -> DescribedGroup<'static> {
    let group_id = Str::from(id.to_owned());
    if !ctx.allows(Action::Read, id) {
        let error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        return DescribedGroup { error_code, group_id, ..Default::default() };
    }
    match ctx.server.coordinator.describe(&CursorKey::new(&ctx.namespace(), id)) {
        Some(view) => described(group_id, view),
        None if ctx.version >= DEAD_IS_AN_ERROR_FROM => DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(format!("Group {id} not found.").into()),
            group_id,
            group_state: "Dead".into(),
            ..Default::default()
        },
        None => DescribedGroup { group_id, group_state: "Dead".into(), ..Default::default() },
    }
}

fn described(group_id: Str<'static>, view: GroupView) -> DescribedGroup<'static> {
    let members = view
        .members
        .into_iter()
        .map(|(member, metadata)| DescribedGroupMember {
            member_id: member.id.into(),
            group_instance_id: member.instance_id.map(Into::into),
            client_id: member.client.client_id.into(),
            client_host: member.client.host.into(),
            member_metadata: Vec::from(metadata).into(),
            member_assignment: Vec::from(member.assignment).into(),
        })
        .collect();
    DescribedGroup {
        group_id,
        group_state: view.state.into(),
        protocol_type: view.protocol_type.into(),
        protocol_data: view.protocol.into(),
        members,
        ..Default::default()
    }
}

pub(crate) async fn list_groups(ctx: &Ctx, request: ListGroupsRequest<'_>) -> ListGroupsResponse<'static> {
    let lower = |filter: &[&str]| -> HashSet<String> {
        filter.iter().map(|wanted| wanted.to_ascii_lowercase()).collect()
    };
    let (states, types) = (lower(&request.states_filter), lower(&request.types_filter));
    let wanted = |filter: &HashSet<String>, value: &str| {
        filter.is_empty() || filter.contains(&value.to_ascii_lowercase())
    };
    let coordinator = &ctx.server.coordinator;
    let groups = coordinator
        .list(&ctx.namespace())
        .into_iter()
        .filter(|key| ctx.allows(Action::Read, &key.name))
        .filter_map(|key| coordinator.describe(&key).map(|view| (key, view)))
        .filter(|(_, view)| wanted(&states, view.state) && wanted(&types, "classic"))
        .map(|(key, view)| ListedGroup {
            group_id: key.name.as_ref().to_owned().into(),
            protocol_type: view.protocol_type.into(),
            group_state: view.state.into(),
            group_type: "classic".into(),
        })
        .collect();
    ListGroupsResponse { groups, ..Default::default() }
}

pub(crate) async fn delete_groups(
    ctx: &Ctx,
    request: DeleteGroupsRequest<'_>,
) -> DeleteGroupsResponse<'static> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut staged = Seq(0);
    for id in once_each(&request.groups_names, |id| *id) {
        pace(ctx, results.len(), staged).await;
        let error_code = match ctx.allows(Action::Configure, id) {
            false => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            true => match ctx.server.coordinator.stage_delete(&CursorKey::new(&ctx.namespace(), id)) {
                Ok(Some(seq)) => {
                    staged = staged.max(seq);
                    ErrorCode::NONE
                }
                Ok(None) => ErrorCode::GROUP_ID_NOT_FOUND,
                Err(DeleteRefusal::NotEmpty) => ErrorCode::NON_EMPTY_GROUP,
                Err(DeleteRefusal::Failed(e)) => errors::of(&e),
            },
        };
        results.push(DeletableGroupResult { group_id: (*id).to_owned().into(), error_code });
    }
    if let Some((code, _)) = not_durable(ctx, staged).await {
        for result in results.iter_mut().filter(|result| result.error_code == ErrorCode::NONE) {
            result.error_code = code;
        }
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

pub(crate) async fn offset_delete(
    ctx: &Ctx,
    request: OffsetDeleteRequest<'_>,
) -> OffsetDeleteResponse<'static> {
    let refused = |error_code| OffsetDeleteResponse { error_code, ..Default::default() };
    if !ctx.allows(Action::Configure, request.group_id) {
        return refused(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let key = CursorKey::new(&ctx.namespace(), request.group_id);
    if ctx.server.coordinator.describe(&key).is_none() {
        return refused(ErrorCode::GROUP_ID_NOT_FOUND);
    }
    let in_use = ctx.server.coordinator.offsets_in_use(&key);
    if in_use == InUse::All {
        return refused(ErrorCode::NON_EMPTY_GROUP);
    }
    let is_subscribed = |topic: &str| match &in_use {
        InUse::Topics(topics) => topics.contains(topic),
        InUse::EveryTopic | InUse::All => true,
    };
    let mut gone = Vec::new();
    let mut answer = OffsetDeleteResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let named = NamedTopic::find(ctx, topic.name);
        let allowed = named.may(ctx, Action::Read, topic.name);
        let is_subscribed = is_subscribed(topic.name);
        for wanted in &topic.partitions {
            let error_code = if !allowed {
                ErrorCode::TOPIC_AUTHORIZATION_FAILED
            } else if is_subscribed {
                ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
            } else {
                match named.partition(wanted.partition_index) {
                    Ok(partition) => {
                        gone.push(partition.clone());
                        ErrorCode::NONE
                    }
                    Err(code) => code,
                }
            };
            partitions
                .push(OffsetDeleteResponsePartition { partition_index: wanted.partition_index, error_code });
        }
        answer.topics.push(OffsetDeleteResponseTopic { name: topic.name.to_owned().into(), partitions });
    }
    let broker = &ctx.server.broker;
    let deleted = match broker.delete_positions(&key, &gone) {
        Ok(seq) => broker.durable(seq).await,
        Err(e) => Err(e),
    };
    match deleted {
        Ok(()) => answer,
        Err(e) => refused(errors::of(&e)),
    }
}

#[cfg(test)]
mod tests;

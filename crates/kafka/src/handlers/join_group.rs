//! JoinGroup and SyncGroup.

use broker::{Action, CursorKey};
use bytes::Bytes;

use crate::{
    codec::{
        ErrorCode,
        api::{
            join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
            sync_group::{SyncGroupRequest, SyncGroupResponse},
        },
    },
    errors,
    group::{Join, Joined, Sync},
    session::Ctx,
};

/// Longest reason kept: people read it.
const REASON_LEN_MAX: usize = 255;

/// Names and metadata of one member's protocols together, bytes. The original keeps a whole group in one record of a
/// megabyte; what is more would be held here for as long as a session that nobody keeps up.
const PROTOCOLS_LEN_MAX: usize = 1 << 20;

/// Protocols of one member: clients have a handful. Each costs more here than its few bytes on the wire.
const PROTOCOLS_MAX: usize = 1_000;

/// The version of SyncGroup from which protocol type and name must be given.
const PROTOCOL_IS_NAMED_FROM: i16 = 5;

/// What it was asked with is gone while it waits.
pub(crate) fn join_group<'c>(
    ctx: &'c Ctx,
    request: JoinGroupRequest<'_>,
) -> impl Future<Output = JoinGroupResponse<'static>> + Send + use<'c> {
    let join = may_join(ctx, &request);
    let asked = join.map(|()| (CursorKey::new(&ctx.namespace(), request.group_id), join_of(ctx, &request)));
    let member_id = request.member_id.to_owned();
    async move {
        let joined = match asked {
            Ok((key, join)) => ctx.server.coordinator.join(&key, join).await,
            Err(error_code) => return refused(error_code, member_id),
        };
        match joined {
            Ok(joined) => answer(ctx, joined),
            Err((refusal, member_id)) => refused(errors::of_group(refusal), member_id),
        }
    }
}

fn may_join(ctx: &Ctx, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
    if !ctx.allows(Action::Read, request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let protocols_len: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
    if protocols_len > PROTOCOLS_LEN_MAX || request.protocols.len() > PROTOCOLS_MAX {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(())
}

/// As much of a client's reason as is kept.
pub(crate) fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_LEN_MAX)].to_owned()
}

fn join_of(ctx: &Ctx, request: &JoinGroupRequest<'_>) -> Join {
    let ms = |ms: i32| u64::try_from(ms).unwrap_or(0);
    let unique = ctx.server.broker.env().random.u128();
    let prefix = request.group_instance_id.unwrap_or(&ctx.client.client_id);
    let session_timeout_ms = ms(request.session_timeout_ms);
    Join {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        new_member_id: format!("{prefix}-{}", wire::uuid::text(unique)),
        client: ctx.client.clone(),
        session_timeout_ms,
        // Version 0 has no rebalance time-out of its own (KIP-62).
        rebalance_timeout_ms: if ctx.version == 0 {
            session_timeout_ms
        } else {
            ms(request.rebalance_timeout_ms)
        },
        protocol_type: request.protocol_type.to_owned(),
        protocols: request
            .protocols
            .iter()
            .map(|p| (p.name.to_owned(), Bytes::copy_from_slice(p.metadata)))
            .collect(),
        must_know_its_id: ctx.version >= 4 && request.group_instance_id.is_none(),
        may_skip_assignment: ctx.version >= 9,
        reason: shortened(request.reason.unwrap_or_default()),
    }
}

fn answer(ctx: &Ctx, joined: Joined) -> JoinGroupResponse<'static> {
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.into(),
            group_instance_id: member.instance_id.map(Into::into),
            metadata: Vec::from(member.metadata).into(),
        })
        .collect();
    JoinGroupResponse {
        error_code: ErrorCode::NONE,
        generation_id: joined.generation,
        protocol_type: (ctx.version >= 7).then(|| joined.protocol_type.into()),
        protocol_name: Some(joined.protocol.into()),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members,
        ..Default::default()
    }
}

fn refused(error_code: ErrorCode, member_id: String) -> JoinGroupResponse<'static> {
    JoinGroupResponse { error_code, member_id: member_id.into(), ..Default::default() }
}

/// What it was asked with is gone while it waits.
pub(crate) fn sync_group<'c>(
    ctx: &'c Ctx,
    request: SyncGroupRequest<'_>,
) -> impl Future<Output = SyncGroupResponse<'static>> + Send + use<'c> {
    let key = CursorKey::new(&ctx.namespace(), request.group_id);
    let asked = sync_of(ctx, &request);
    async move {
        let synced = match asked {
            Ok(sync) => ctx.server.coordinator.sync(&key, sync).await.map_err(errors::of_group),
            Err(error_code) => Err(error_code),
        };
        match synced {
            Ok(synced) => SyncGroupResponse {
                protocol_type: Some(synced.protocol_type.into()),
                protocol_name: Some(synced.protocol.into()),
                assignment: Vec::from(synced.assignment).into(),
                ..Default::default()
            },
            Err(error_code) => SyncGroupResponse { error_code, ..Default::default() },
        }
    }
}

fn sync_of(ctx: &Ctx, request: &SyncGroupRequest<'_>) -> Result<Sync, ErrorCode> {
    // From this version on a member says which protocol it follows (KIP-559).
    let says_which = request.protocol_type.is_some() && request.protocol_name.is_some();
    if ctx.version >= PROTOCOL_IS_NAMED_FROM && !says_which {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    if !ctx.allows(Action::Read, request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    Ok(Sync {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: request
            .assignments
            .iter()
            .map(|a| (a.member_id.to_owned(), Bytes::copy_from_slice(a.assignment)))
            .collect(),
    })
}

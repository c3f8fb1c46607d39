//! Heartbeat and LeaveGroup.

use broker::{Action, CursorKey};

use super::join_group::shortened;
use crate::{
    codec::{
        ErrorCode,
        api::{
            heartbeat::{HeartbeatRequest, HeartbeatResponse},
            leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse},
        },
    },
    errors,
    group::{Committer, Leaver},
    session::Ctx,
};

pub(crate) async fn heartbeat(ctx: &Ctx, request: HeartbeatRequest<'_>) -> HeartbeatResponse {
    if !ctx.allows(Action::Read, request.group_id) {
        return HeartbeatResponse { error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED, ..Default::default() };
    }
    let who = Committer {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    let result = ctx.server.coordinator.heartbeat(&CursorKey::new(&ctx.namespace(), request.group_id), who);
    HeartbeatResponse {
        error_code: result.map_or_else(errors::of_group, |()| ErrorCode::NONE),
        ..Default::default()
    }
}

pub(crate) async fn leave_group(ctx: &Ctx, request: LeaveGroupRequest<'_>) -> LeaveGroupResponse<'static> {
    if !ctx.allows(Action::Read, request.group_id) {
        return LeaveGroupResponse {
            error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED,
            ..Default::default()
        };
    }
    let key = CursorKey::new(&ctx.namespace(), request.group_id);
    if ctx.version < 3 {
        let leaver =
            Leaver { member_id: request.member_id.to_owned(), instance_id: None, reason: String::new() };
        let result = ctx.server.coordinator.leave(&key, &leaver).await;
        let error_code = result.map_or_else(errors::of_group, |()| ErrorCode::NONE);
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    let mut members = Vec::with_capacity(request.members.len());
    for member in &request.members {
        let leaver = Leaver {
            member_id: member.member_id.to_owned(),
            instance_id: member.group_instance_id.map(str::to_owned),
            reason: shortened(member.reason.unwrap_or_default()),
        };
        let result = ctx.server.coordinator.leave(&key, &leaver).await;
        members.push(MemberResponse {
            member_id: leaver.member_id.into(),
            group_instance_id: leaver.instance_id.map(Into::into),
            error_code: result.map_or_else(errors::of_group, |()| ErrorCode::NONE),
        });
    }
    LeaveGroupResponse { members, ..Default::default() }
}

//! FindCoordinator: always this node.

use broker::Action;

use crate::{
    codec::{
        ErrorCode, Str,
        api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
    },
    session::Ctx,
};

const GROUP: i8 = 0;

pub(crate) async fn find_coordinator(
    ctx: &Ctx,
    request: FindCoordinatorRequest<'_>,
) -> FindCoordinatorResponse<'static> {
    if ctx.version < 4 {
        let found = of_key(ctx, request.key_type, request.key);
        return FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: found.error_message,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        };
    }
    let coordinators =
        request.coordinator_keys.iter().map(|key| of_key(ctx, request.key_type, key)).collect();
    FindCoordinatorResponse { coordinators, ..Default::default() }
}

fn of_key(ctx: &Ctx, key_type: i8, key: &str) -> Coordinator<'static> {
    let refused = |error_code: ErrorCode, message: &'static str| Coordinator {
        key: key.to_owned().into(),
        node_id: -1,
        host: "".into(),
        port: -1,
        error_code,
        error_message: Some(message.into()),
    };
    match key_type {
        GROUP if !ctx.allows(Action::Read, key) => {
            refused(ErrorCode::GROUP_AUTHORIZATION_FAILED, "Not authorized to access group")
        }
        GROUP => {
            let (host, port) = ctx.advertised();
            Coordinator {
                key: key.to_owned().into(),
                node_id: ctx.server.options.node_id,
                host: Str::from(host),
                port,
                error_code: ErrorCode::NONE,
                error_message: None,
            }
        }
        // Transactions and share groups are not served, and not advertised either.
        _ => refused(ErrorCode::INVALID_REQUEST, "Only consumer groups have a coordinator here"),
    }
}

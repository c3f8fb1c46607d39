//! One client's session: who it is, and where each of its requests goes.

use std::sync::Arc;

use broker::{Action, Principal, Users};
use bytes::Bytes;
use model::{Namespace, StreamKey};
use parking_lot::Mutex;

use crate::{
    auth::{Exchange, MECHANISMS, Step as AuthStep},
    codec::{
        ApiKey, ErrorCode, Field, HeaderError, RequestHeader, Version,
        api::{
            alter_configs::AlterConfigsRequest,
            alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            alter_user_scram_credentials::AlterUserScramCredentialsRequest,
            api_versions::ApiVersionsRequest,
            create_partitions::CreatePartitionsRequest,
            create_topics::CreateTopicsRequest,
            delete_groups::DeleteGroupsRequest,
            delete_records::DeleteRecordsRequest,
            delete_topics::DeleteTopicsRequest,
            describe_cluster::DescribeClusterRequest,
            describe_configs::DescribeConfigsRequest,
            describe_groups::DescribeGroupsRequest,
            describe_log_dirs::DescribeLogDirsRequest,
            describe_producers::DescribeProducersRequest,
            describe_quorum::DescribeQuorumRequest,
            describe_topic_partitions::DescribeTopicPartitionsRequest,
            describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
            elect_leaders::ElectLeadersRequest,
            fetch::FetchRequest,
            find_coordinator::FindCoordinatorRequest,
            heartbeat::HeartbeatRequest,
            incremental_alter_configs::IncrementalAlterConfigsRequest,
            init_producer_id::InitProducerIdRequest,
            join_group::JoinGroupRequest,
            leave_group::LeaveGroupRequest,
            list_config_resources::ListConfigResourcesRequest,
            list_groups::ListGroupsRequest,
            list_offsets::ListOffsetsRequest,
            list_partition_reassignments::ListPartitionReassignmentsRequest,
            metadata::MetadataRequest,
            offset_commit::OffsetCommitRequest,
            offset_delete::OffsetDeleteRequest,
            offset_fetch::OffsetFetchRequest,
            offset_for_leader_epoch::OffsetForLeaderEpochRequest,
            sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse},
            sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse},
            sync_group::SyncGroupRequest,
        },
        encode_response,
    },
    connection::{Handler, Step},
    group::ClientView,
    handlers,
    server::{ConnectionInfo, Server},
};

/// Largest frame before authentication (`sasl.server.max.receive.size`).
const UNAUTHENTICATED_LEN_MAX: usize = 512 * 1024;

/// One connection's session.
pub(crate) struct Session {
    server: Arc<Server>,
    info: Arc<ConnectionInfo>,
    auth: Arc<Mutex<Auth>>,
    software: Arc<Mutex<(String, String)>>,
    pub(crate) produce: handlers::produce::Routes,
}

/// How far a session is with proving who it is.
struct Auth {
    principal: Option<Principal>,
    /// Whether the principal proved to be that user; else it was let in because there were none.
    is_proven: bool,
    /// Of the users when the principal was taken from them.
    users_generation: u64,
    exchange: Exchange,
    /// SaslHandshake v0 was used: the mechanism's messages come without request headers.
    raw: bool,
    /// The mechanism let the client in; it stays who it is.
    logged_in: bool,
    /// The mechanism refused the client: the connection ends with that answer, as the original's does.
    failed: bool,
}

impl Auth {
    /// Who the session acts for, as the users are now; why it ends, when it acts for nobody any more.
    fn current(&mut self, users: &Users<'_>) -> Result<Option<Principal>, &'static str> {
        let generation = users.generation();
        if self.users_generation != generation
            && let Some(before) = &self.principal
        {
            match &before.name {
                Some(name) if self.is_proven => {
                    let now = users.principal(name).filter(|now| now.tenant == before.tenant);
                    self.principal = Some(now.ok_or("its user is gone")?);
                }
                _ if users.any() => return Err("there are users now, and it is none of them"),
                _ => {}
            }
        }
        self.users_generation = generation;
        Ok(self.principal.clone())
    }
}

/// What a handler knows of the request and of who makes it.
pub(crate) struct Ctx {
    pub server: Arc<Server>,
    pub info: Arc<ConnectionInfo>,
    pub principal: Principal,
    pub client: ClientView,
    pub version: i16,
}

impl Ctx {
    /// Where this session's names live.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace { tenant: self.principal.tenant.clone(), ..Namespace::default() }
    }

    /// The log behind a topic's name, for requests that create or delete.
    pub(crate) fn log_key(&self, topic: &str) -> StreamKey {
        StreamKey::log(&self.namespace(), topic)
    }

    /// Whether the principal may do `action` to the topic or group `name`.
    pub(crate) fn allows(&self, action: Action, name: &str) -> bool {
        self.principal.allows(action, name)
    }

    /// Host and port that this client is told to connect to.
    pub(crate) fn advertised(&self) -> (String, i32) {
        match &self.info.advertised {
            Some((host, port)) => (host.clone(), i32::from(*port)),
            None => (self.info.local.ip().to_string(), i32::from(self.info.local.port())),
        }
    }
}

impl Session {
    pub(crate) fn new(server: Arc<Server>, info: ConnectionInfo) -> Self {
        let users_generation = server.broker.users().generation();
        // Without users, whoever reached this listener is let in: the binary binds beyond loopback only when told to.
        let principal = (!server.broker.users().any()).then(Principal::anonymous);
        Session {
            server,
            info: Arc::new(info),
            auth: Arc::new(Mutex::new(Auth {
                principal,
                is_proven: false,
                users_generation,
                exchange: Exchange::None,
                raw: false,
                logged_in: false,
                failed: false,
            })),
            software: Arc::default(),
            produce: handlers::produce::Routes::default(),
        }
    }

    fn ctx(&self, principal: Principal, header: &RequestHeader<'_>) -> Ctx {
        let (software, software_version) = self.software.lock().clone();
        Ctx {
            server: self.server.clone(),
            info: self.info.clone(),
            principal,
            client: ClientView {
                client_id: header.client_id.unwrap_or_default().to_owned(),
                software,
                software_version,
                host: format!("/{}", self.info.peer.ip()),
            },
            version: header.version.number,
        }
    }

    /// One message of a mechanism that goes without request headers; the answer is framed alone.
    fn raw_auth(&self, frame: Bytes) -> Step {
        let (server, auth) = (self.server.clone(), self.auth.clone());
        Step::Barrier(Box::pin(async move {
            match authenticate(&server, &auth, &frame).await {
                Ok(answer) => {
                    let len = u32::try_from(answer.len()).map_err(|e| e.to_string())?;
                    Ok(vec![Bytes::copy_from_slice(&len.to_be_bytes()), answer.into()])
                }
                Err(why) => Err(why.to_owned()),
            }
        }))
    }

    fn handshake(&self, mechanism: &str, version: i16) -> SaslHandshakeResponse<'static> {
        let mut auth = self.auth.lock();
        let mechanisms = || MECHANISMS.iter().map(|m| (*m).into()).collect();
        if auth.logged_in {
            let error_code = ErrorCode::ILLEGAL_SASL_STATE;
            return SaslHandshakeResponse { error_code, mechanisms: mechanisms() };
        }
        let error_code = match Exchange::begin(mechanism) {
            Some(exchange) => {
                auth.exchange = exchange;
                auth.raw = version == 0;
                ErrorCode::NONE
            }
            None => {
                auth.failed = true;
                ErrorCode::UNSUPPORTED_SASL_MECHANISM
            }
        };
        SaslHandshakeResponse { error_code, mechanisms: mechanisms() }
    }

    /// Routes a request that is handled before later ones are looked at.
    fn route(&mut self, frame: Bytes, header: &RequestHeader<'_>, principal: Principal) -> Step {
        let ctx = self.ctx(principal, header);
        let (correlation, version) = (header.correlation_id, header.version);
        macro_rules! to {
            ($request:ident, $handler:path) => {{
                Step::Barrier(Box::pin(async move {
                    let request: $request = body(&frame, version)?;
                    let response = $handler(&ctx, request).await;
                    let key = <$request as crate::codec::Request<'_>>::KEY;
                    Ok(encode_response(key, version.number, correlation, &response).into_chunks())
                }))
            }};
        }
        // What waits for others keeps nothing of its frame meanwhile.
        macro_rules! poll {
            ($request:ident, $handler:path) => {{
                Step::Poll(Box::pin(async move {
                    let request: $request = body(&frame, version)?;
                    let answering = $handler(&ctx, request);
                    drop(frame);
                    let key = <$request as crate::codec::Request<'_>>::KEY;
                    Ok(encode_response(key, version.number, correlation, &answering.await).into_chunks())
                }))
            }};
        }
        match header.api.key {
            ApiKey::Produce => handlers::produce::produce(&ctx, &mut self.produce, &frame, correlation),
            ApiKey::ApiVersions => {
                let request: ApiVersionsRequest<'_> = match body(&frame, version) {
                    Ok(request) => request,
                    Err(why) => return Step::Close(why),
                };
                let response = handlers::api_versions::api_versions(&request, version.number);
                if response.error_code == ErrorCode::NONE && version.number >= 3 {
                    *self.software.lock() =
                        (request.client_software_name.to_owned(), request.client_software_version.to_owned());
                }
                Step::Answer(
                    encode_response(ApiKey::ApiVersions, version.number, correlation, &response)
                        .into_chunks(),
                )
            }
            ApiKey::SaslHandshake => {
                let request: SaslHandshakeRequest<'_> = match body(&frame, version) {
                    Ok(request) => request,
                    Err(why) => return Step::Close(why),
                };
                let response = self.handshake(request.mechanism, version.number);
                Step::Answer(
                    encode_response(ApiKey::SaslHandshake, version.number, correlation, &response)
                        .into_chunks(),
                )
            }
            ApiKey::SaslAuthenticate => {
                let (server, auth) = (self.server.clone(), self.auth.clone());
                Step::Barrier(Box::pin(async move {
                    let request: SaslAuthenticateRequest<'_> = body(&frame, version)?;
                    let response = sasl_authenticate(&server, &auth, request.auth_bytes).await;
                    let key = ApiKey::SaslAuthenticate;
                    Ok(encode_response(key, version.number, correlation, &response).into_chunks())
                }))
            }
            ApiKey::Fetch => Step::Poll(Box::pin(async move {
                let request: FetchRequest<'_> = body(&frame, version)?;
                let answering = handlers::fetch::fetch(&ctx, request);
                drop(frame);
                let (response, charge) = answering.await;
                let answer = encode_response(ApiKey::Fetch, version.number, correlation, &response);
                let mut parts = answer.into_chunks();
                if let Some(charge) = charge {
                    charge.attach(&mut parts);
                }
                Ok(parts)
            })),
            ApiKey::ListOffsets => to!(ListOffsetsRequest, handlers::list_offsets::list_offsets),
            ApiKey::Metadata => to!(MetadataRequest, handlers::metadata::metadata),
            ApiKey::OffsetCommit => to!(OffsetCommitRequest, handlers::offset_commit::offset_commit),
            ApiKey::OffsetFetch => to!(OffsetFetchRequest, handlers::offset_fetch::offset_fetch),
            ApiKey::FindCoordinator => {
                to!(FindCoordinatorRequest, handlers::find_coordinator::find_coordinator)
            }
            ApiKey::JoinGroup => poll!(JoinGroupRequest, handlers::join_group::join_group),
            ApiKey::Heartbeat => to!(HeartbeatRequest, handlers::group_members::heartbeat),
            ApiKey::LeaveGroup => to!(LeaveGroupRequest, handlers::group_members::leave_group),
            ApiKey::SyncGroup => poll!(SyncGroupRequest, handlers::join_group::sync_group),
            ApiKey::DescribeGroups => to!(DescribeGroupsRequest, handlers::groups::describe_groups),
            ApiKey::ListGroups => to!(ListGroupsRequest, handlers::groups::list_groups),
            ApiKey::DeleteGroups => to!(DeleteGroupsRequest, handlers::groups::delete_groups),
            ApiKey::OffsetDelete => to!(OffsetDeleteRequest, handlers::groups::offset_delete),
            ApiKey::CreateTopics => to!(CreateTopicsRequest, handlers::create_topics::create_topics),
            ApiKey::DeleteTopics => to!(DeleteTopicsRequest, handlers::topics::delete_topics),
            ApiKey::CreatePartitions => to!(CreatePartitionsRequest, handlers::topics::create_partitions),
            ApiKey::DeleteRecords => to!(DeleteRecordsRequest, handlers::topics::delete_records),
            ApiKey::InitProducerId => to!(InitProducerIdRequest, handlers::producers::init_producer_id),
            ApiKey::DescribeProducers => {
                to!(DescribeProducersRequest, handlers::producers::describe_producers)
            }
            ApiKey::OffsetForLeaderEpoch => {
                to!(OffsetForLeaderEpochRequest, handlers::list_offsets::offset_for_leader_epoch)
            }
            ApiKey::DescribeConfigs => Step::Barrier(Box::pin(async move {
                let request: DescribeConfigsRequest<'_> = body(&frame, version)?;
                let answer = handlers::configs::describe_configs(&ctx, request, version, correlation).await;
                Ok(answer.into_chunks())
            })),
            ApiKey::AlterConfigs => to!(AlterConfigsRequest, handlers::configs::alter_configs),
            ApiKey::IncrementalAlterConfigs => {
                to!(IncrementalAlterConfigsRequest, handlers::configs::incremental_alter_configs)
            }
            ApiKey::ListConfigResources => {
                to!(ListConfigResourcesRequest, handlers::configs::list_config_resources)
            }
            ApiKey::DescribeLogDirs => to!(DescribeLogDirsRequest, handlers::cluster::describe_log_dirs),
            ApiKey::DescribeCluster => to!(DescribeClusterRequest, handlers::cluster::describe_cluster),
            ApiKey::DescribeQuorum => to!(DescribeQuorumRequest, handlers::cluster::describe_quorum),
            ApiKey::ElectLeaders => to!(ElectLeadersRequest, handlers::replicas::elect_leaders),
            ApiKey::AlterPartitionReassignments => {
                to!(AlterPartitionReassignmentsRequest, handlers::replicas::alter_partition_reassignments)
            }
            ApiKey::ListPartitionReassignments => {
                to!(ListPartitionReassignmentsRequest, handlers::replicas::list_partition_reassignments)
            }
            ApiKey::DescribeTopicPartitions => {
                to!(DescribeTopicPartitionsRequest, handlers::metadata::describe_topic_partitions)
            }
            ApiKey::DescribeUserScramCredentials => {
                to!(
                    DescribeUserScramCredentialsRequest,
                    handlers::scram_users::describe_user_scram_credentials
                )
            }
            ApiKey::AlterUserScramCredentials => {
                to!(AlterUserScramCredentialsRequest, handlers::scram_users::alter_user_scram_credentials)
            }
        }
    }
}

impl Handler for Session {
    fn handle(&mut self, frame: Bytes) -> Step {
        let principal = {
            let mut auth = self.auth.lock();
            if auth.raw {
                drop(auth);
                return self.raw_auth(frame);
            }
            match auth.current(&self.server.broker.users()) {
                Ok(principal) => principal,
                Err(why) => return Step::Close(why.to_owned()),
            }
        };
        let header = match RequestHeader::read(&frame) {
            Ok((header, _)) => header,
            Err(HeaderError::ApiVersions { correlation_id, .. }) => {
                let response = handlers::api_versions::unsupported();
                let answer = encode_response(ApiKey::ApiVersions, 0, correlation_id, &response);
                return Step::Answer(answer.into_chunks());
            }
            Err(e) => return Step::Close(e.to_string()),
        };
        let before_login =
            matches!(header.api.key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        let principal = match principal {
            Some(principal) => principal,
            None if before_login => Principal::anonymous(),
            None => return Step::Close(format!("{} before authentication", header.api.name)),
        };
        // The header borrows from the frame, which the request takes along.
        self.route(frame.clone(), &header, principal)
    }

    fn is_over(&self) -> bool {
        self.auth.lock().failed
    }

    fn frame_len_max(&self) -> usize {
        match self.auth.lock().principal {
            Some(_) => self.server.options.request_len_max,
            None => UNAUTHENTICATED_LEN_MAX.min(self.server.options.request_len_max),
        }
    }
}

/// The body of a request whose header was read before.
pub(crate) fn body<'a, R: Field<'a>>(frame: &'a [u8], version: Version) -> Result<R, String> {
    let (_, mut reader) = RequestHeader::read(frame).map_err(|e| e.to_string())?;
    R::read(&mut reader, version).map_err(|e| format!("a request body: {e}"))
}

async fn sasl_authenticate(
    server: &Server,
    auth: &Mutex<Auth>,
    message: &[u8],
) -> SaslAuthenticateResponse<'static> {
    if auth.lock().logged_in {
        return SaslAuthenticateResponse {
            error_code: ErrorCode::ILLEGAL_SASL_STATE,
            error_message: Some("SaslAuthenticate request received after successful authentication".into()),
            ..Default::default()
        };
    }
    match authenticate(server, auth, message).await {
        Ok(answer) => SaslAuthenticateResponse { auth_bytes: answer.into(), ..Default::default() },
        Err(why) => SaslAuthenticateResponse {
            error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
            error_message: Some(why.into()),
            ..Default::default()
        },
    }
}

/// Takes one message of the mechanism. A failure ends the exchange.
async fn authenticate(server: &Server, auth: &Mutex<Auth>, message: &[u8]) -> Result<Vec<u8>, &'static str> {
    let users_generation = server.broker.users().generation();
    let open_door = !server.broker.users().any();
    let mut exchange = std::mem::take(&mut auth.lock().exchange);
    let step = exchange.take(&server.broker, message, open_door).await;
    let mut auth = auth.lock();
    match step {
        AuthStep::Continue(answer) => {
            auth.exchange = exchange;
            Ok(answer)
        }
        AuthStep::Done(answer, principal) => {
            auth.principal = Some(principal);
            auth.is_proven = !open_door;
            auth.users_generation = users_generation;
            auth.raw = false;
            auth.logged_in = true;
            Ok(answer)
        }
        AuthStep::Failed(why) => {
            auth.failed = true;
            Err(why)
        }
    }
}

#[cfg(test)]
mod tests;

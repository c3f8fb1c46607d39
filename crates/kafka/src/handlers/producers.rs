//! InitProducerId for idempotent producers, and DescribeProducers.

use broker::Action;

use super::{NamedTopic, once_each};
use crate::{
    codec::{
        ErrorCode,
        api::{
            describe_producers::{
                DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
                TopicResponse,
            },
            init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
        },
    },
    errors,
    session::Ctx,
};

pub(crate) async fn init_producer_id(
    ctx: &Ctx,
    request: InitProducerIdRequest<'_>,
) -> InitProducerIdResponse {
    let refused =
        |error_code| InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
    if request.transactional_id == Some("") {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    if request.transactional_id.is_some() {
        // Transactions are not served: their APIs are not advertised, and this is what the original says of an id that
        // may not be used.
        return refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    // Without a transactional id every request is answered with an id of its own, as the original does: idempotent
    // producers raise their epoch by themselves.
    let broker = &ctx.server.broker;
    match broker.new_producer_id() {
        Ok((producer_id, seq)) => match broker.durable(seq).await {
            Ok(()) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
            Err(e) => refused(errors::of(&e)),
        },
        Err(e) if e.kind() == model::ErrorKind::Throttled => refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        Err(e) => refused(errors::of(&e)),
    }
}

pub(crate) async fn describe_producers(
    ctx: &Ctx,
    request: DescribeProducersRequest<'_>,
) -> DescribeProducersResponse<'static> {
    let mut answer = DescribeProducersResponse::default();
    for topic in once_each(&request.topics, |topic| topic.name) {
        let named = NamedTopic::find(ctx, topic.name);
        let allowed = named.may(ctx, Action::Read, topic.name);
        let of_partition = |index: &i32| {
            let found = match allowed {
                false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                true => named.partition(*index),
            };
            let (error_code, active_producers) = match found {
                Ok(partition) => {
                    let producers = ctx.server.broker.producers(partition);
                    (ErrorCode::NONE, producers.into_iter().map(state_of).collect())
                }
                Err(code) => (code, Vec::new()),
            };
            PartitionResponse { partition_index: *index, error_code, error_message: None, active_producers }
        };
        let partitions = once_each(&topic.partition_indexes, |index| *index).map(of_partition).collect();
        answer.topics.push(TopicResponse { name: topic.name.to_owned().into(), partitions });
    }
    answer
}

fn state_of(producer: broker::ProducerView) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_time_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}

//! InitProducerId: gives a producer its id and epoch.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request};

impl<'a> Request<'a> for InitProducerIdRequest<'a> {
    const KEY: ApiKey = ApiKey::InitProducerId;
    type Response<'r> = InitProducerIdResponse;
}

message! {
    /// A new producer, or one that wants its next epoch.
    pub struct InitProducerIdRequest<'a> {
        transactional_id: Option<&'a str>;
        transaction_timeout_ms: i32;
        producer_id: i64 = -1, in 3..;
        producer_epoch: i16 = -1, in 3..;
    }

    /// The id and epoch.
    pub struct InitProducerIdResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}

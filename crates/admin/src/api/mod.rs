//! The JSON API under `/api/v1`, one file per kind of thing. `docs/admin-api.md` describes it.

pub(crate) mod cursors;
pub(crate) mod groups;
pub(crate) mod page;
pub(crate) mod places;
pub(crate) mod queues;
pub(crate) mod records;
pub(crate) mod routes;
pub(crate) mod server;
pub(crate) mod streams;
pub(crate) mod testing;
pub(crate) mod users;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};

use crate::server::Shared;

/// Every path of the API; the ones for tests only in an ephemeral run.
pub(crate) fn router(shared: &Shared) -> Router<Arc<Shared>> {
    let router = Router::new()
        .route("/api/v1/server", get(server::describe))
        .route("/api/v1/streams", get(streams::list).post(streams::create))
        .route("/api/v1/streams/{name}", get(streams::describe).patch(streams::alter).delete(streams::delete))
        .route("/api/v1/streams/{name}/records", get(records::read).post(records::publish))
        .route("/api/v1/cursors", get(cursors::list))
        .route("/api/v1/cursors/{name}", delete(cursors::delete))
        .route("/api/v1/cursors/{name}/lag", get(cursors::lag))
        .route("/api/v1/cursors/{name}/seek", post(cursors::seek))
        .route("/api/v1/cursors/{name}/copy", post(cursors::copy))
        .route("/api/v1/cursors/{name}/protect", post(cursors::protect))
        .route("/api/v1/cursors/{name}/members", get(groups::members))
        .route("/api/v1/cursors/{name}/history", get(groups::history))
        .route("/api/v1/cursors/{name}/evict", post(groups::evict))
        .route("/api/v1/queues", get(queues::list).post(queues::create))
        .route("/api/v1/queues/{name}", get(queues::describe).patch(queues::alter).delete(queues::delete))
        .route("/api/v1/queues/{name}/records", get(queues::peek::peek))
        .route("/api/v1/queues/{name}/purge", post(queues::purge))
        .route("/api/v1/queues/{name}/drop", post(queues::drop_records))
        .route("/api/v1/queues/{name}/replay", post(queues::replay::start))
        .route("/api/v1/queues/{name}/moves", get(queues::moves::list).post(queues::moves::start))
        .route("/api/v1/queues/{name}/moves/{id}", delete(queues::moves::cancel))
        .route("/api/v1/dead-letters", get(queues::dead_letters))
        .route("/api/v1/routes", get(routes::list).post(routes::add).delete(routes::remove_all))
        .route("/api/v1/routes/{id}", delete(routes::remove))
        .route("/api/v1/routes/explain", get(routes::explain))
        .route("/api/v1/users", get(users::list))
        .route("/api/v1/users/{name}", axum::routing::put(users::put).delete(users::delete));
    if shared.options.test_clock.is_none() {
        return router;
    }
    router.route("/reset", post(testing::reset)).route("/clock/advance", post(testing::advance))
}

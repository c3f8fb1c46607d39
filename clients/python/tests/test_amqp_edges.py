"""What programs written with pika see where RabbitMQ's rules have edges: times to live, deaths, consumers that take too long."""

import functools

import pika
import pika.exceptions
import pytest

from amqpkit import channel, count, persistent, taken
from kit import eventually, unique

shows = functools.partial(pytest.mark.shows, "pika", protocol="AMQP")


@pytest.fixture
def ch():
    with channel() as opened:
        opened.confirm_delivery()
        yield opened


def declare(ch, prefix, **arguments):
    queue = unique(prefix)
    ch.queue_declare(queue, durable=True, arguments={f"x-{name.replace('_', '-')}": value for name, value in arguments.items()})
    return queue


def publish(ch, queue, body, exchange="", **properties):
    ch.basic_publish(exchange, queue, body.encode(), persistent(**properties))


def got(ch, queue, auto_ack=True):
    """The first message of a queue, once there is one."""
    return eventually(f"{queue} has something", lambda: (found := ch.basic_get(queue, auto_ack))[0] and found)


def lasting(ch, seconds):
    """Lets time pass for the connection."""
    ch.connection.process_data_events(seconds)


@shows("a message expires when it is its turn, counts until then, and is a dead letter after it")
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_expiry_at_the_head(ch, kind):
    dead = declare(ch, "dead")
    queue = declare(ch, "head", queue_type=kind, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, queue, "stays")
    publish(ch, queue, "goes", expiration="50")
    lasting(ch, 0.4)
    assert (count(ch, queue), count(ch, dead)) == (2, 0)
    method, _, body = got(ch, queue, auto_ack=False)
    assert body == b"stays"
    _, properties, body = got(ch, dead)
    assert body == b"goes" and properties.expiration is None
    (death,) = properties.headers["x-death"]
    assert (death["reason"], death["original-expiration"], death["queue"], death["count"]) == ("expired", "50", queue, 1)
    assert count(ch, queue) == 0
    ch.basic_ack(method.delivery_tag)
    for name in queue, dead:
        ch.queue_delete(name)


@shows("a message with no time to live is delivered where a consumer waits, and is a dead letter where none does")
def test_no_time_at_all(ch):
    dead = declare(ch, "dead")
    queue = declare(ch, "at-once", message_ttl=0, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(ch, queue, "nobody's")
    assert got(ch, dead)[2] == b"nobody's"
    seen = []
    tag = ch.basic_consume(queue, lambda _ch, _method, _properties, body: seen.append(body), auto_ack=True)
    for n in range(20):
        publish(ch, queue, str(n))
        eventually(f"message {n} is delivered", lambda: lasting(ch, 0.01) or len(seen) == n + 1)
    ch.basic_cancel(tag)
    assert count(ch, dead) == 0
    for name in queue, dead:
        ch.queue_delete(name)


@shows("a retry ladder: x-death keeps the exchange and keys that a message came by first, and counts its rounds")
def test_ladder(ch):
    events, work, wait = unique("events"), unique("work"), unique("wait")
    ch.exchange_declare(events, "topic", durable=True)
    ch.queue_declare(work, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
    ch.queue_declare(wait, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 50})
    ch.queue_bind(work, events, "order.#")
    publish(ch, "order.created", "x", exchange=events)
    for round_ in range(4):
        method, properties, _ = got(ch, work, auto_ack=False)
        deaths = {death["queue"]: death for death in (properties.headers or {}).get("x-death", [])}
        if round_:
            own = deaths[work]
            assert (own["count"], own["exchange"], own["routing-keys"], own["reason"]) == (round_, events, ["order.created"], "rejected")
            assert (deaths[wait]["count"], deaths[wait]["reason"]) == (round_, "expired")
            assert properties.headers["x-first-death-exchange"] == events
            assert properties.headers["x-last-death-queue"] == wait
        ch.basic_nack(method.delivery_tag, requeue=False)
    for name in work, wait:
        ch.queue_delete(name)
    ch.exchange_delete(events)


@shows("alternate exchanges in a chain: what the last one does not take comes back to its publisher")
def test_alternates(ch):
    first, second, kept = unique("first"), unique("second"), declare(ch, "kept")
    ch.exchange_declare(second, "topic", durable=True, internal=True)
    ch.exchange_declare(first, "direct", durable=True, arguments={"alternate-exchange": second})
    ch.queue_bind(kept, second, "order.#")
    ch.basic_publish(first, "order.created", b"x", persistent(), mandatory=True)
    assert got(ch, kept)[2] == b"x"
    with pytest.raises(pika.exceptions.UnroutableError):
        ch.basic_publish(first, "payment", b"y", persistent(), mandatory=True)
    ch.queue_delete(kept)
    for name in first, second:
        ch.exchange_delete(name)


@shows("a consumer of a quorum queue that takes longer than its time is cancelled, and another has its message")
def test_consumer_timeout(ch):
    queue = declare(ch, "slow", queue_type="quorum", consumer_timeout=500)
    publish(ch, queue, "x")
    taken_at, cancelled = [], []
    ch.add_on_cancel_callback(cancelled.append)
    ch.basic_consume(queue, lambda _ch, method, _properties, _body: taken_at.append(method.delivery_tag))
    eventually("it is cancelled", lambda: lasting(ch, 0.05) or cancelled)
    assert len(taken_at) == 1
    with channel() as other:
        method, properties, body = got(other, queue, auto_ack=False)
        assert body == b"x" and method.redelivered
        assert properties.headers["x-acquired-count"] == 1 and "x-delivery-count" not in properties.headers
        # Too late, and no error.
        ch.basic_ack(taken_at[0])
        assert count(ch, queue) == 0
        other.basic_nack(method.delivery_tag, requeue=True)
        ((_, _, body),) = taken(other, queue, 1)
        assert body == b"x"
    ch.queue_delete(queue)


@shows("a get that is not acknowledged in time ends its channel, in the original's words")
def test_get_timeout(ch):
    queue = declare(ch, "slow", queue_type="quorum", consumer_timeout=500)
    publish(ch, queue, "x")
    other = ch.connection.channel()
    method, _, _ = other.basic_get(queue)
    reasons = []
    # A call on the channel raises the reason only where the close comes while it waits.
    other._impl.add_on_close_callback(lambda _, reason: reasons.append(reason))
    eventually("the channel is closed", lambda: lasting(ch, 0.05) or reasons)
    (closed,) = reasons
    words = (
        f"PRECONDITION_FAILED - delivery acknowledgement on channel {other.channel_number} timed out. Timeout value used: 500 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )
    assert (closed.reply_code, closed.reply_text) == (406, words)
    assert got(ch, queue)[0].redelivered
    ch.queue_delete(queue)

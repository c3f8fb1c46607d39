"""No durable answer of AMQP comes before its sync, which a hidden setting makes slow."""

import time

import pytest

from amqpkit import channel, persistent
from brokers import started
from kit import unique

SYNC_S = 0.2


@pytest.mark.shows("pika", "no declaration, binding, purge, deletion, confirm or commit is answered before its sync", protocol="AMQP")
def test_no_durable_answer_comes_before_its_sync():
    with started("--test-sync-delay-ms", str(int(SYNC_S * 1000)), used=("amqp", "admin")) as broker:
        with channel(broker.address("amqp")) as ch:
            exchange, other, queue = unique("exchange"), unique("other"), unique("queue")
            early = []

            def durable(what, call):
                began = time.monotonic()
                call()
                took = time.monotonic() - began
                if took < SYNC_S:
                    early.append((what, took))

            durable("exchange.declare", lambda: ch.exchange_declare(exchange, "topic", durable=True))
            ch.exchange_declare(other, "fanout", durable=True)
            durable("queue.declare", lambda: ch.queue_declare(queue, durable=True))
            durable("queue.bind", lambda: ch.queue_bind(queue, exchange, "a.#"))
            durable("exchange.bind", lambda: ch.exchange_bind(other, exchange, "b"))
            with channel(broker.address("amqp")) as confirming:
                confirming.confirm_delivery()
                durable("a confirm", lambda: confirming.basic_publish("", queue, b"x", persistent(), mandatory=True))
                durable("a confirm through an exchange", lambda: confirming.basic_publish(exchange, "a.b", b"x", persistent()))
            with channel(broker.address("amqp")) as transacted:
                transacted.tx_select()
                transacted.basic_publish("", queue, b"y", persistent())
                durable("tx.commit of a publish", transacted.tx_commit)
                method, _, _ = transacted.basic_get(queue)
                transacted.basic_ack(method.delivery_tag)
                durable("tx.commit of an acknowledgement", transacted.tx_commit)
            durable("queue.purge", lambda: ch.queue_purge(queue))
            durable("queue.unbind", lambda: ch.queue_unbind(queue, exchange, "a.#"))
            durable("exchange.unbind", lambda: ch.exchange_unbind(other, exchange, "b"))
            durable("queue.delete", lambda: ch.queue_delete(queue))
            durable("exchange.delete", lambda: ch.exchange_delete(exchange))
            assert early == []

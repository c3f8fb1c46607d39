"""What tests with pika share."""

import contextlib

import pika

from kit import PATIENCE_S, need


def parameters(address=None, **options):
    host, port = (address or need("WIREMILL_AMQP")).rsplit(":", 1)
    settings = {"heartbeat": 10, "blocked_connection_timeout": PATIENCE_S, **options}
    return pika.ConnectionParameters(host, int(port), **settings)


@contextlib.contextmanager
def channel(address=None, **options):
    connection = pika.BlockingConnection(parameters(address, **options))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def persistent(**more):
    return pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent, **more)


def taken(ch, queue, count, **options):
    """The first `count` messages of a queue, acknowledged."""
    messages = []
    for method, properties, body in ch.consume(queue, inactivity_timeout=PATIENCE_S, **options):
        assert method, f"{len(messages)} of {count} messages came"
        messages.append((method, properties, body))
        ch.basic_ack(method.delivery_tag)
        if len(messages) == count:
            break
    ch.cancel()
    return messages


def count(ch, queue):
    return ch.queue_declare(queue, passive=True).method.message_count

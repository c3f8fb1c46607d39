"""What programs written with pika's adapters for event loops see: all in callbacks, nothing blocks."""

import asyncio

import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection

from amqpkit import parameters, persistent
from kit import PATIENCE_S, unique

COUNT = 500


class Service:
    """Declares a queue, publishes with confirms, consumes with a prefetch, deletes the queue, and is told so."""

    def __init__(self, adapter):
        self.queue = unique("async")
        self.confirmed, self.seen, self.told = 0, [], []
        self.connection = adapter(
            parameters(), on_open_callback=self.on_open,
            on_open_error_callback=self.on_failed, on_close_callback=self.on_closed,
        )

    def on_failed(self, connection, error):
        self.told.append(f"not opened: {error}")
        self.connection.ioloop.stop()

    def on_closed(self, connection, reason):
        self.told.append(f"closed {reason.reply_code}")
        self.connection.ioloop.stop()

    def on_open(self, connection):
        connection.ioloop.call_later(PATIENCE_S, connection.ioloop.stop)
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel):
        self.channel = channel
        channel.add_on_return_callback(lambda _ch, method, _properties, body: self.told.append(f"returned {method.reply_code} {body}"))
        channel.add_on_cancel_callback(self.on_cancelled)
        channel.confirm_delivery(self.on_confirm, callback=lambda _: self.channel.queue_declare(
            self.queue, durable=True, callback=self.on_declared,
        ))

    def on_declared(self, _frame):
        self.channel.basic_publish("", unique("nobody"), b"astray", persistent(), mandatory=True)
        for n in range(COUNT):
            self.channel.basic_publish("", self.queue, str(n).encode(), persistent(), mandatory=True)
        self.channel.basic_qos(prefetch_count=20, callback=lambda _: self.channel.basic_consume(self.queue, self.on_message))

    def on_confirm(self, frame):
        assert frame.method.NAME == "Basic.Ack"
        self.confirmed = max(self.confirmed, frame.method.delivery_tag)
        self.go_on()

    def on_message(self, channel, method, _properties, body):
        self.seen.append(int(body))
        channel.basic_ack(method.delivery_tag)
        self.go_on()

    def go_on(self):
        if len(self.seen) == COUNT and self.confirmed == COUNT + 1:
            self.channel.queue_delete(self.queue, callback=lambda _: self.told.append("deleted"))

    def on_cancelled(self, _frame):
        self.told.append("cancelled")
        self.connection.close()


ADAPTERS = {"SelectConnection": pika.SelectConnection, "AsyncioConnection": AsyncioConnection}


@pytest.mark.shows("pika", "{adapter}: confirms, a return, a prefetch and a cancel notification, all in callbacks", protocol="AMQP")
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_callbacks(adapter):
    # The asyncio adapter takes the loop of the thread.
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    try:
        service = Service(ADAPTERS[adapter])
        service.connection.ioloop.run_forever() if adapter == "AsyncioConnection" else service.connection.ioloop.start()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert service.seen == list(range(COUNT))
    assert service.told == ["returned 312 b'astray'", "deleted", "cancelled", "closed 200"]

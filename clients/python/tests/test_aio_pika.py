"""What programs written with aio-pika see."""

import asyncio
import functools

import aio_pika
import pytest
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from aio_pika.patterns import RPC, Master

from brokers import started
from kit import PATIENCE_S, need, unique


def shows(capability):
    """A test as a coroutine, which shows that."""
    def decorate(test):
        @pytest.mark.shows("aio-pika", capability, protocol="AMQP")
        @functools.wraps(test)
        def run():
            asyncio.run(asyncio.wait_for(test(), 90))

        del run.__wrapped__
        return run

    return decorate


def url(address=None) -> str:
    return f"amqp://guest:guest@{address or need('WIREMILL_AMQP')}/"


def persistent(body, **more) -> Message:
    return Message(str(body).encode(), delivery_mode=DeliveryMode.PERSISTENT, **more)


async def put(channel, queue, *bodies):
    for body in bodies:
        await channel.default_exchange.publish(persistent(body), queue.name)


async def taken(queue, count):
    """The first `count` messages, acknowledged."""
    messages = []
    async with asyncio.timeout(PATIENCE_S):
        async with queue.iterator() as iterator:
            async for message in iterator:
                messages.append(message)
                await message.ack()
                if len(messages) == count:
                    break
    return messages


async def eventually(what, holds):
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not (value := await holds()):
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)
    return value


@shows("a queue iterator gives messages in order, with their properties and headers; what its body raises is given back")
async def test_queue_iterator():
    connection = await aio_pika.connect_robust(url())
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(unique("iterator"), durable=True)
        headers = {"n": 7, "list": [1, "two"], "table": {"inner": True}}
        for n in range(100):
            await channel.default_exchange.publish(persistent(n, headers=headers, priority=3, message_id=str(n)), queue.name)
        messages = await taken(queue, 60)
        assert [int(message.body) for message in messages] == list(range(60))
        assert all(message.headers == headers and message.message_id == str(n) for n, message in enumerate(messages))
        message = await queue.get()
        with pytest.raises(ZeroDivisionError):
            async with message.process(requeue=True):
                raise ZeroDivisionError
        rest = await taken(queue, 40)
        assert [int(message.body) for message in rest] == list(range(60, 100))
        assert rest[0].redelivered
        await queue.delete()


@shows("a message that goes nowhere fails its publish, and so does one that a full queue rejects")
async def test_confirms():
    async with await aio_pika.connect_robust(url()) as connection:
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(PublishError):
            await channel.default_exchange.publish(persistent("x"), unique("nobody"))
        queue = await channel.declare_queue(
            unique("full"), durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"},
        )
        await put(channel, queue, "a", "b")
        with pytest.raises(DeliveryError):
            await put(channel, queue, "c")
        assert [message.body for message in await taken(queue, 2)] == [b"a", b"b"]
        await queue.delete()


@shows("calls by name over the RPC pattern: answers, errors, many at once")
async def test_rpc():
    async with await aio_pika.connect_robust(url()) as server, await aio_pika.connect_robust(url()) as client:
        name = unique("multiply")
        serving = await RPC.create(await server.channel())
        calling = await RPC.create(await client.channel())

        async def multiply(*, x, y):
            return x / y

        await serving.register(name, multiply, auto_delete=True)
        answers = await asyncio.gather(*(calling.call(name, {"x": n, "y": 2}) for n in range(100)))
        assert answers == [n / 2 for n in range(100)]
        with pytest.raises(ZeroDivisionError):
            await calling.call(name, {"x": 1, "y": 0})
        await calling.close()
        await serving.close()


@shows("a request and its answer over direct reply-to")
async def test_direct_reply_to():
    async with await aio_pika.connect_robust(url()) as connection:
        channel = await connection.channel()
        requests = await channel.declare_queue(unique("requests"), auto_delete=True)

        async def serve(message):
            answer = Message(b"re " + message.body, correlation_id=message.correlation_id)
            await channel.default_exchange.publish(answer, message.reply_to)

        await requests.consume(serve, no_ack=True)
        asking = await connection.channel()
        answers = asyncio.Queue()
        # A passive declaration, as there is nothing to be made.
        reply_to = await asking.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await reply_to.consume(answers.put, no_ack=True)
        for n in range(20):
            request = Message(str(n).encode(), reply_to="amq.rabbitmq.reply-to", correlation_id=str(n))
            await asking.default_exchange.publish(request, requests.name)
            answer = await asyncio.wait_for(answers.get(), PATIENCE_S)
            assert (answer.body, answer.correlation_id) == (f"re {n}".encode(), str(n))


@shows("a master gives tasks to workers; a task that is refused is a dead letter, one that fails comes again")
async def test_master():
    async with await aio_pika.connect_robust(url()) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        master, name, dead = Master(channel), unique("tasks"), unique("dead")
        letters = await channel.declare_queue(dead, durable=True)
        seen = []

        async def work(*, task):
            seen.append(task)
            if task == 3 and seen.count(3) == 1:
                raise aio_pika.patterns.NackMessage(requeue=True)
            if task == 7:
                raise aio_pika.patterns.RejectMessage(requeue=False)

        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        worker = await master.create_worker(name, work, durable=True, arguments=arguments)
        for task in range(10):
            await master.create_task(name, {"task": task})
        (letter,) = await taken(letters, 1)
        assert letter.headers["x-first-death-reason"] == "rejected"
        assert [death["count"] for death in letter.headers["x-death"]] == [1]

        async def is_done():
            return sorted(seen) == sorted([*range(10), 3])

        await eventually("every task is done", is_done)
        await worker.close()
        for queue in name, dead:
            await channel.queue_delete(queue)


@shows("topic, direct, fanout and headers exchanges choose, and bindings between exchanges lead on")
async def test_exchanges():
    async with await aio_pika.connect_robust(url()) as connection:
        channel = await connection.channel(on_return_raises=False)
        exchanges = {
            kind: await channel.declare_exchange(unique(kind.value), kind, auto_delete=True)
            for kind in (ExchangeType.TOPIC, ExchangeType.DIRECT, ExchangeType.FANOUT, ExchangeType.HEADERS)
        }
        queue = await channel.declare_queue(exclusive=True)
        await exchanges[ExchangeType.FANOUT].bind(exchanges[ExchangeType.TOPIC], "order.#")
        await queue.bind(exchanges[ExchangeType.FANOUT])
        await queue.bind(exchanges[ExchangeType.DIRECT], "exact")
        await queue.bind(exchanges[ExchangeType.HEADERS], arguments={"x-match": "all", "kind": "order", "size": 3})
        for kind, key, headers, arrives in (
            (ExchangeType.TOPIC, "order.created.us", {}, True),
            (ExchangeType.TOPIC, "payment.created", {}, False),
            (ExchangeType.DIRECT, "exact", {}, True),
            (ExchangeType.DIRECT, "other", {}, False),
            (ExchangeType.HEADERS, "", {"kind": "order", "size": 3}, True),
            (ExchangeType.HEADERS, "", {"kind": "order"}, False),
        ):
            await exchanges[kind].publish(Message(b"x", headers=headers), key, mandatory=False)
            message = await queue.get(no_ack=True, fail=False)
            assert bool(message) == arrives, (kind, key, headers)


@shows("a transaction is there with its commit or not at all")
async def test_transactions():
    async with await aio_pika.connect_robust(url()) as connection:
        looking = await connection.channel()
        queue = await looking.declare_queue(unique("tx"), durable=True)

        async def ready():
            # Asked for once more: a robust channel answers with the queue that it knows.
            return (await (await looking.get_underlay_channel()).queue_declare(queue.name, passive=True)).message_count

        channel = await connection.channel(publisher_confirms=False)
        with pytest.raises(ZeroDivisionError):
            async with channel.transaction():
                await put(channel, queue, "a", "b")
                raise ZeroDivisionError
        assert await ready() == 0
        async with channel.transaction():
            await put(channel, queue, "a", "b")
            assert await ready() == 0
        assert await ready() == 2
        await queue.delete(if_empty=False)


@shows("a redeclaration that differs is refused in the original's words, and the connection goes on")
async def test_errors():
    async with await aio_pika.connect_robust(url()) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(unique("errors"), durable=True)
        with pytest.raises(ChannelPreconditionFailed) as refused:
            await (await connection.channel()).declare_queue(queue.name, durable=True, arguments={"x-message-ttl": 1000})
        assert (
            f"inequivalent arg 'x-message-ttl' for queue '{queue.name}' in vhost '/': "
            "received the value '1000' of type 'short' but current is none"
        ) in str(refused.value)
        await queue.delete()


@shows("a broker killed and started again: a robust connection brings channels, queues, bindings and consumers back")
async def test_robust_connection():
    with started(used=("amqp", "admin")) as broker:
        connection = await aio_pika.connect_robust(url(broker.address("amqp")), reconnect_interval=0.1)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=5)
            exchange = await channel.declare_exchange(unique("events"), ExchangeType.TOPIC, auto_delete=True)
            passing = await channel.declare_queue(exclusive=False, auto_delete=True)
            await passing.bind(exchange, "order.#")
            durable = await channel.declare_queue(unique("durable"), durable=True)
            seen, passed = asyncio.Queue(), asyncio.Queue()
            await passing.consume(passed.put, no_ack=True)
            await put(channel, durable, *range(20))
            again = asyncio.Event()
            connection.reconnect_callbacks.add(lambda *_: again.set())
            broker.kill()
            broker.start()
            await asyncio.wait_for(again.wait(), PATIENCE_S)
            await channel.ready()
            await exchange.publish(Message(b"after"), "order.created")
            assert (await asyncio.wait_for(passed.get(), PATIENCE_S)).body == b"after"
            await durable.consume(seen.put)
            for n in range(20):
                message = await asyncio.wait_for(seen.get(), PATIENCE_S)
                assert int(message.body) == n
                await message.ack()

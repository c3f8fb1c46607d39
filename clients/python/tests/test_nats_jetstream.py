"""What programs written with nats-py see of JetStream."""

import asyncio
import functools
import time

import nats
import nats.js.errors
import pytest
from nats.js import api

from kit import PATIENCE_S, need, unique

shows = functools.partial(pytest.mark.shows, "nats-py", protocol="NATS")


def with_stream(test):
    """Runs a coroutine with a client of JetStream and the name of a stream of its own."""

    def run():
        async def main():
            nc = await nats.connect(f"nats://{need('WIREMILL_NATS')}")
            try:
                js, name = nc.jetstream(timeout=PATIENCE_S), unique("stream")
                await js.add_stream(name=name, subjects=[f"{name}.>"])
                await test(js, name)
            finally:
                await nc.close()

        asyncio.run(main())

    run.__name__, run.__doc__, run.pytestmark = test.__name__, test.__doc__, getattr(test, "pytestmark", [])
    return run


async def put(js, subject, *bodies):
    for body in bodies:
        await js.publish(subject, body.encode())


def numbers(count):
    return [str(n) for n in range(count)]


@with_stream
@shows("a durable pull consumer gets messages in order and acknowledges them")
async def test_pull(js, name):
    await put(js, f"{name}.a", *numbers(10))
    sub = await js.pull_subscribe(f"{name}.>", durable="worker")
    messages = await sub.fetch(10, timeout=PATIENCE_S)
    assert [message.data.decode() for message in messages] == numbers(10)
    assert messages[3].metadata.sequence.stream == 4
    assert messages[3].metadata.num_pending == 6
    for message in messages:
        await message.ack_sync(timeout=PATIENCE_S)
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.2)
    info = await sub.consumer_info()
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 10)


@with_stream
@shows("push consumers deliver to subscribers and queue groups")
async def test_push(js, name):
    await put(js, f"{name}.a", *numbers(50))
    sub = await js.subscribe(f"{name}.>", durable="push", manual_ack=True)
    for expected in numbers(50):
        message = await sub.next_msg(timeout=PATIENCE_S)
        assert message.data.decode() == expected
        await message.ack()
    seen = []

    async def take(message):
        seen.append(message.data.decode())

    for _ in range(2):
        await js.subscribe(f"{name}.>", queue="group", cb=take)
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < 50:
            await asyncio.sleep(0.01)
    assert sorted(seen, key=int) == numbers(50)


@with_stream
@shows("a message that was refused comes again")
async def test_nak(js, name):
    await put(js, f"{name}.a", "one")
    sub = await js.pull_subscribe(f"{name}.a", durable="worker")
    first = (await sub.fetch(1, timeout=PATIENCE_S))[0]
    await first.nak()
    again = (await sub.fetch(1, timeout=PATIENCE_S))[0]
    assert again.metadata.num_delivered == 2
    await again.term()
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.3)


@with_stream
@shows("an ordered consumer reads everything")
async def test_ordered(js, name):
    await put(js, f"{name}.a", *numbers(300))
    sub = await js.subscribe(f"{name}.>", ordered_consumer=True)
    for expected in numbers(300):
        assert (await sub.next_msg(timeout=PATIENCE_S)).data.decode() == expected


@with_stream
@shows("a key-value bucket keeps values, their history and revisions")
async def test_key_value(js, name):
    kv = await js.create_key_value(bucket=unique("bucket"), history=5)
    revision = await kv.create("name", b"derek")
    with pytest.raises(nats.js.errors.KeyWrongLastSequenceError):
        await kv.create("name", b"again")
    revision = await kv.update("name", b"rip", last=revision)
    with pytest.raises(nats.js.errors.KeyWrongLastSequenceError):
        await kv.update("name", b"old", last=1_000_000)
    entry = await kv.get("name")
    assert (entry.value, entry.revision) == (b"rip", revision)
    await kv.put("age", b"22")
    assert [entry.value for entry in await kv.history("name")] == [b"derek", b"rip"]
    assert sorted(await kv.keys()) == ["age", "name"]
    await kv.delete("age")
    with pytest.raises(nats.js.errors.KeyNotFoundError):
        await kv.get("age")
    await kv.purge("name")
    assert (await kv.status()).history == 5


@with_stream
@shows("a watcher sees the present values of a bucket, then every change")
async def test_watch(js, name):
    kv = await js.create_key_value(bucket=unique("bucket"))
    await kv.put("a.x", b"1")
    await kv.put("b.x", b"2")
    watcher = await kv.watch("a.*")

    async def seen():
        entry = await watcher.updates(timeout=PATIENCE_S)
        return entry and (entry.key, entry.value, entry.operation)

    assert [await seen(), await seen()] == [("a.x", b"1", None), None]
    await kv.put("a.y", b"3")
    await kv.delete("a.x")
    assert [await seen(), await seen()] == [("a.y", b"3", None), ("a.x", b"", "DEL")]
    await watcher.stop()


@with_stream
@shows("an object store keeps objects in chunks")
async def test_object_store(js, name):
    store = await js.create_object_store(bucket=unique("objects"))
    body = bytes(at * 31 % 256 for at in range(500_000))
    info = await store.put("big", body)
    assert info.chunks == 4
    assert (await store.get("big")).data == body
    await store.delete("big")
    with pytest.raises(nats.js.errors.ObjectNotFoundError):
        await store.get("big")


@with_stream
@shows("consumers are listed and deleted")
async def test_consumers(js, name):
    await js.add_consumer(name, api.ConsumerConfig(durable_name="a"))
    assert [info.name for info in await js.consumers_info(name)] == ["a"]
    assert await js.delete_consumer(name, "a")
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.consumer_info(name, "a")


@with_stream
@shows("values of a bucket with a TTL are gone when it is over")
async def test_key_value_ttl(js, name):
    kv = await js.create_key_value(bucket=unique("bucket"), ttl=1.5)
    began = time.monotonic()
    await kv.put("session", b"open")

    async def is_there():
        try:
            await kv.get("session")
            return True
        except nats.js.errors.KeyNotFoundError:
            return False

    assert await is_there() or time.monotonic() - began >= 1.5
    async with asyncio.timeout(PATIENCE_S):
        while await is_there():
            await asyncio.sleep(0.02)
    assert time.monotonic() - began >= 1.5
    await kv.create("session", b"open again")


@with_stream
@shows("a watcher of an object store sees the present objects, then every change")
async def test_object_store_watch(js, name):
    store = await js.create_object_store(bucket=unique("objects"))
    await store.put("a", b"1")
    watcher = await store.watch()

    async def seen():
        info = await watcher.updates(timeout=PATIENCE_S)
        return info and (info.name, info.size, bool(info.deleted))

    assert [await seen(), await seen()] == [("a", 1, False), None]
    await store.put("a", b"22")
    await store.put("b", b"333")
    await store.delete("a")
    assert [await seen(), await seen(), await seen()] == [("a", 2, False), ("b", 3, False), ("a", 0, True)]
    await watcher.stop()

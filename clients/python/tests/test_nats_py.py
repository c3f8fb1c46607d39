"""What programs written with nats-py see."""

import asyncio
import contextlib
import functools
import ssl

import nats
import nats.errors
import pytest

import brokers
from kit import PATIENCE_S, need, unique

shows = functools.partial(pytest.mark.shows, "nats-py", protocol="NATS")


def connected(test):
    """Runs a coroutine with a way to connect; what it connected is closed afterwards."""

    def run():
        async def main():
            async with contextlib.AsyncExitStack() as stack:
                async def dial(address=None, **options):
                    settings = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.02, "error_cb": quiet}
                    nc = await nats.connect(f"nats://{address or need('WIREMILL_NATS')}", **{**settings, **options})
                    stack.push_async_callback(nc.close)
                    return nc

                await test(dial)

        asyncio.run(main())

    # Not functools.wraps: pytest would look for a fixture `dial`.
    run.__name__, run.__doc__, run.pytestmark = test.__name__, test.__doc__, getattr(test, "pytestmark", [])
    return run


async def quiet(_error):
    """Errors that a test does not look at."""


async def take(subscription, count=1):
    return [(await subscription.next_msg(timeout=PATIENCE_S)).data.decode() for _ in range(count)]


async def publish(nc, subject, *bodies):
    for body in bodies:
        await nc.publish(subject, body.encode())
    await nc.flush(PATIENCE_S)


async def eventually(what, holds):
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def numbers(count):
    return [str(n) for n in range(count)]


@shows("a publish reaches every subscription that matches, with wildcards")
@connected
async def test_wildcards(dial):
    nc, root = await dial(), unique("wild")
    one, rest, exact = [await nc.subscribe(f"{root}.{last}") for last in ("*", ">", "a")]
    await publish(nc, f"{root}.a", "1")
    await publish(nc, f"{root}.a.b", "2")
    await publish(nc, f"{root}.a", "3")
    assert await take(one, 2) == ["1", "3"]
    assert await take(rest, 3) == ["1", "2", "3"]
    assert await take(exact, 2) == ["1", "3"]


@shows("a message that nobody listens to is gone")
@connected
async def test_nobody_listens(dial):
    nc, subject = await dial(), unique("gone")
    await publish(nc, subject, "early")
    subscription = await nc.subscribe(subject)
    await publish(nc, subject, "late")
    assert await take(subscription) == ["late"]


@shows("a queue group gives each message to one of its members")
@connected
async def test_queue_group(dial):
    subject, seen, members = unique("orders") + ".created", [], [0, 0, 0]

    async def member(number):
        async def handle(message):
            seen.append(message.data.decode())
            members[number] += 1

        nc = await dial()
        await nc.subscribe(subject, queue="order-processors", cb=handle)
        await nc.flush(PATIENCE_S)

    for number in range(3):
        await member(number)
    await publish(await dial(), subject, *numbers(1000))
    await eventually("every message was taken", lambda: len(seen) >= 1000)
    assert sorted(seen, key=int) == numbers(1000)
    assert all(members)


@shows("a subscription ends after as many messages as it asked for")
@connected
async def test_auto_unsubscribe(dial):
    nc, subject = await dial(), unique("few")
    subscription = await nc.subscribe(subject)
    await subscription.unsubscribe(limit=3)
    await publish(nc, subject, *numbers(5))
    assert await take(subscription, 3) == ["0", "1", "2"]
    with pytest.raises(nats.errors.NoRespondersError):
        await nc.request(subject, timeout=PATIENCE_S)


@shows("headers travel with a message")
@connected
async def test_headers(dial):
    nc, subject = await dial(), unique("headers")
    subscription = await nc.subscribe(subject)
    await nc.publish(subject, b"body", headers={"Trace-Id": "a", "lower": "x: y"})
    message = await subscription.next_msg(timeout=PATIENCE_S)
    assert (message.data, message.headers) == (b"body", {"Trace-Id": "a", "lower": "x: y"})


@shows("a client that asks for no echo does not get its own messages")
@connected
async def test_no_echo(dial):
    silent, other, subject = await dial(no_echo=True), await dial(), unique("echo")
    own = await silent.subscribe(subject)
    await publish(silent, subject, "mine")
    await publish(other, subject, "theirs")
    assert await take(own) == ["theirs"]


@shows("messages up to max_payload pass, and a longer one is an error")
@connected
async def test_long_messages(dial):
    nc, subject = await dial(), unique("long")
    subscription = await nc.subscribe(subject)
    assert nc.max_payload == 1 << 20
    await nc.publish(subject, bytes(nc.max_payload))
    assert len((await subscription.next_msg(timeout=PATIENCE_S)).data) == nc.max_payload
    with pytest.raises(nats.errors.MaxPayloadError):
        await nc.publish(subject, bytes(nc.max_payload + 1))


@shows("a request is answered by one of several instances of a service")
@connected
async def test_requests(dial):
    subject = unique("api") + ".users.get"

    async def answer(request):
        await request.respond(b"user " + request.data)

    for _ in range(3):
        nc = await dial()
        await nc.subscribe(subject, queue="users", cb=answer)
        await nc.flush(PATIENCE_S)
    nc = await dial()
    answers = await asyncio.gather(*(nc.request(subject, body.encode(), timeout=PATIENCE_S) for body in numbers(200)))
    assert [one.data.decode() for one in answers] == [f"user {body}" for body in numbers(200)]
    assert (await nc.request(subject, b"7", timeout=PATIENCE_S, old_style=True)).data == b"user 7"


@shows("a request that nobody serves fails at once")
@connected
async def test_no_responder(dial):
    nc = await dial()
    with pytest.raises(nats.errors.NoRespondersError):
        await nc.request(unique("nobody"), timeout=10 * PATIENCE_S)


@shows("draining a subscriber loses and repeats nothing")
@connected
async def test_drain(dial):
    subject, seen, count = unique("drain"), [], 10_000

    async def join():
        async def handle(message):
            seen.append(message.data.decode())

        nc = await dial()
        await nc.subscribe(subject, queue="workers", cb=handle)
        await nc.flush(PATIENCE_S)
        return nc

    leaving, publisher = await join(), await dial()
    await join()
    drained = None
    for start in range(0, count, 500):
        await publish(publisher, subject, *numbers(count)[start:start + 500])
        if start == count // 2:
            drained = asyncio.create_task(leaving.drain())
    await drained
    await eventually("every message was taken", lambda: len(seen) >= count)
    assert sorted(seen, key=int) == numbers(count)


@shows("clients come back after a restart, with their subscriptions")
@connected
async def test_reconnect(dial):
    back = asyncio.Event()

    async def came_back():
        back.set()

    with brokers.started() as broker:
        nc = await dial(broker.nats, reconnected_cb=came_back)
        subscription = await nc.subscribe("restart.>")
        await nc.flush(PATIENCE_S)
        broker.kill()
        broker.start()
        await asyncio.wait_for(back.wait(), PATIENCE_S)
        await publish(nc, "restart.a", "after")
        assert await take(subscription) == ["after"]


@shows("users are let in by name and password, and nobody else")
@connected
async def test_users(dial):
    with brokers.started() as broker:
        broker.command("user", "add", "alice", "--password", "correct horse")
        nc = await dial(broker.nats, user="alice", password="correct horse")
        subscription = await nc.subscribe("a")
        await publish(nc, "a", "1")
        assert await take(subscription) == ["1"]
        for wrong in ({"user": "alice", "password": "wrong"}, {"user": "bob", "password": "x"}, {"token": "x"}, {}):
            with pytest.raises(nats.errors.Error, match="(?i)authorization violation"):
                await dial(broker.nats, allow_reconnect=False, **wrong)


@shows("what a user may not publish or subscribe to is told as a permissions violation")
@connected
async def test_permissions(dial):
    errors = asyncio.Queue()
    with brokers.started() as broker:
        broker.command("user", "add", "root", "--password", "correct horse")
        broker.command("user", "add", "tenant-7", "--password", "correct horse", "--as", "root:correct horse",
                       "--allow", "write:tenants.7.events.*", "--allow", "read:_INBOX.*")
        nc = await dial(broker.nats, user="tenant-7", password="correct horse", error_cb=errors.put)
        await publish(nc, "tenants.7.events.a", "allowed")
        await publish(nc, "tenants.8.events.a", "forbidden")
        told = await asyncio.wait_for(errors.get(), PATIENCE_S)
        assert 'permissions violation for publish to "tenants.8.events.a"' in str(told).lower()
        await nc.subscribe("tenants.7.events.>")
        told = await asyncio.wait_for(errors.get(), PATIENCE_S)
        assert 'permissions violation for subscription to "tenants.7.events.>"' in str(told).lower()
        await nc.flush(PATIENCE_S)
        assert nc.is_connected


@shows("TLS begins after the first line, and the certificate is verified")
@connected
async def test_tls(dial):
    with brokers.started(tls="nats") as broker:
        nc = await dial(broker.nats, tls=ssl.create_default_context(cafile=broker.certificate))
        subscription = await nc.subscribe("a")
        await publish(nc, "a", *numbers(1000))
        assert await take(subscription, 1000) == numbers(1000)
        with pytest.raises(ssl.SSLError):
            await dial(broker.nats, tls=ssl.create_default_context(), allow_reconnect=False)

"""A worker of a JetStream consumer as people write it: fetches one message, works, acknowledges; SIGTERM drains it.

A message whose handler failed is refused and comes again; how often, and where it goes then, the consumer says. What it
does it tells in one line each on its standard output: `took KEY BODY ATTEMPT`, `done KEY BODY TIME` and `failed KEY BODY`;
the key is the last token of the subject. A body `poison…` always fails, `flaky…` fails the first time. Started with `hold`
as the last argument, it never finishes what it takes.
"""

import asyncio
import signal
import sys
import time

import nats
import nats.errors


def tell(*words):
    print(*words, flush=True)


def fails(body: str, attempt: int) -> bool:
    return body.startswith("poison") or (body.startswith("flaky") and attempt == 1)


async def work(message, holds: bool) -> None:
    key, body, attempt = message.subject.rpartition(".")[2], message.data.decode(), message.metadata.num_delivered
    tell("took", key, body, attempt)
    if holds:
        await asyncio.Event().wait()
    if fails(body, attempt):
        tell("failed", key, body)
        await message.nak()
    else:
        tell("done", key, body, time.monotonic_ns())
        await message.ack_sync(timeout=60)


async def main(address: str, stream: str, consumer: str, mode: str = "") -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    nc = await nats.connect(f"nats://{address}")
    subscription = await nc.jetstream().pull_subscribe_bind(consumer, stream)
    tell("ready")
    while not stopping.is_set():
        try:
            (message,) = await subscription.fetch(1, timeout=0.3)
        except nats.errors.TimeoutError:
            continue
        await work(message, mode == "hold")
    # Its drain waits for messages of a pull subscription that were fetched long ago.
    await nc.close()
    tell("drained")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""What working a queue must show (the suite that the other clients run too), on a JetStream stream with nats-py."""

import asyncio
import pathlib

import nats
import pytest
from nats.js import api

import workcases
from kit import PATIENCE_S, eventually, need, unique
from workcases import ATTEMPTS, TellingWorker

# How long a message stays with a worker that is gone.
HELD_S = 5


async def with_jetstream(play):
    nc = await nats.connect(f"nats://{need('WIREMILL_NATS')}")
    try:
        return await play(nc.jetstream(timeout=PATIENCE_S))
    finally:
        await nc.close()


class StreamQueue(workcases.Queue):
    """A stream, its dead letters and a consumer that has one message out at a time: so order is kept with any number of
    workers."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        self.folder, self.name = folder, unique("work")
        self.dead = f"{self.name}-dead"

        async def make(js):
            await js.add_stream(name=self.name, subjects=[f"{self.name}.*"], retention=api.RetentionPolicy.WORK_QUEUE)
            await js.add_stream(name=self.dead, subjects=[self.dead])
            await js.add_consumer(self.name, api.ConsumerConfig(
                durable_name="workers", ack_policy=api.AckPolicy.EXPLICIT, ack_wait=HELD_S, max_ack_pending=1,
                max_deliver=ATTEMPTS, metadata={"wiremill.dead_letter": self.dead},
            ))

        asyncio.run(with_jetstream(make))

    def hire(self, *mode) -> TellingWorker:
        log = self.folder / f"{len(self.workers)}.log"
        self.workers.append(TellingWorker("nats_worker.py", log, need("WIREMILL_NATS"), self.name, "workers", *mode))
        return self.workers[-1]

    def publish(self, messages):
        async def put(js):
            for key, body in messages:
                await js.publish(f"{self.name}.{key}", body.encode())

        asyncio.run(with_jetstream(put))

    def dead_letters(self, count: int) -> list:
        """Waits until there are `count`, and returns them."""

        async def read(js):
            last = (await js.stream_info(self.dead)).state.last_seq
            found = [await js.get_msg(self.dead, seq) for seq in range(1, last + 1)]
            return [(one.headers["Wm-Dead-Subject"].rpartition(".")[2], one.data.decode()) for one in found]

        found = []

        def enough():
            found[:] = asyncio.run(with_jetstream(read))
            return len(found) >= count

        eventually(f"{count} dead letters", enough)
        return found


@pytest.fixture
def queue(tmp_path):
    made = StreamQueue(tmp_path)
    yield made
    made.close()


globals().update(workcases.tests("nats-py", "NATS"))

"""A worker of a topic as people write it: a group, a commit after the work; SIGTERM drains it.

A record whose handler failed goes to the end of the topic with one attempt more in a header, and after the last attempt
to a topic of dead letters. What it does it tells in one line each on its standard output: `took KEY BODY ATTEMPT`, `done
KEY BODY TIME` and `failed KEY BODY`. A body `poison…` always fails, `flaky…` fails the first time. Started with `hold` as
the last argument, it never finishes what it takes.
"""

import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

ATTEMPTS = 3
HEADER = "x-attempt"

stopping = threading.Event()


class Failure(Exception):
    """The work could not be done."""


def tell(*words):
    print(*words, flush=True)


def handle(body: str, attempt: int) -> None:
    if body.startswith("poison") or (body.startswith("flaky") and attempt == 1):
        raise Failure


class Worker:
    def __init__(self, address: str, group: str, topic: str, dead: str, mode: str = ""):
        self.topic, self.dead, self.holds = topic, dead, mode == "hold"
        self.producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
        self.consumer = Consumer({
            "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "session.timeout.ms": 6_000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 100,
        })
        # With a callback the client gives nothing up before it is polled again: what is in hand is committed by then.
        self.consumer.subscribe([topic], on_revoke=lambda *_: None)

    def work(self, message) -> None:
        key, body = message.key().decode(), message.value().decode()
        attempt = int(dict(message.headers() or []).get(HEADER, b"1"))
        tell("took", key, body, attempt)
        if self.holds:
            threading.Event().wait()
        try:
            handle(body, attempt)
        except Failure:
            tell("failed", key, body)
            target = self.dead if attempt == ATTEMPTS else self.topic
            self.producer.produce(target, key=message.key(), value=message.value(), headers={HEADER: str(attempt + 1)})
            # Not to be committed before it is stored again.
            assert self.producer.flush(60) == 0
        else:
            tell("done", key, body, time.monotonic_ns())

    def commit(self, message) -> None:
        """Again while a rebalance is under way: a record is given up by its commit and not before."""
        while True:
            try:
                self.consumer.commit(message=message, asynchronous=False)
                return
            except KafkaException as refused:
                if refused.args[0].code() != KafkaError.REBALANCE_IN_PROGRESS:
                    raise

    def run(self) -> None:
        tell("ready")
        while not stopping.is_set():
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.work(message)
                self.commit(message)
        self.consumer.close()
        tell("drained")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    Worker(*sys.argv[1:]).run()

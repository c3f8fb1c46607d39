"""A queue worker as people write it with pika: what fails is given back, SIGTERM drains it.

It tells what it does in one line each on its standard output: `took BODY COUNT`, `done BODY TIME`, `failed BODY`. A body
`slow…` is worked until the process is killed, `poison…` always fails, `flaky…` fails the first time.
"""

import signal
import sys
import threading
import time

import pika


class Failure(Exception):
    """The work could not be done."""


def tell(*words):
    print(*words, flush=True)


def handle(body: str, count: int) -> None:
    if body.startswith("slow"):
        threading.Event().wait()
    if body.startswith("poison") or (body.startswith("flaky") and count == 1):
        raise Failure


def main(address: str, queue: str) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    host, port = address.rsplit(":", 1)
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port), heartbeat=10))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=5)
    is_ready = False
    for method, properties, data in channel.consume(queue, inactivity_timeout=0.1):
        if not is_ready:
            # It consumes: whoever comes after it is behind it.
            is_ready = True
            tell("ready")
        if stopping.is_set():
            break
        if method is None:
            continue
        body, count = data.decode(), (properties.headers or {}).get("x-delivery-count", 0) + 1
        tell("took", body, count)
        try:
            handle(body, count)
        except Failure:
            tell("failed", body)
            channel.basic_reject(method.delivery_tag, requeue=True)
            continue
        tell("done", body, time.monotonic_ns())
        channel.basic_ack(method.delivery_tag)
    # What came after the last one that was worked goes back with the consumer.
    channel.cancel()
    connection.close()
    tell("drained")


if __name__ == "__main__":
    main(*sys.argv[1:])

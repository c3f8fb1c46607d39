"""The programs of examples/hybrid, together: Kafka, NATS and SQS clients over one broker, with no bridge between them."""

import collections
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from kit import PATIENCE_S, eventually, need, unique

ROOT = pathlib.Path(__file__).parents[3]
HYBRID = ROOT / "examples" / "hybrid"
ORDERS = 30


@pytest.fixture
def programs(tmp_path):
    """Starts the example's programs under names of this test's own, and stops them afterwards."""
    environment = os.environ | {
        "ORDERS": unique("orders"),
        "NOTIFICATIONS": unique("notifications"),
        "USERS": unique("api.users.get"),
        "GROUP": unique("order-processor"),
        "NODE_PATH": str(ROOT / "clients" / "node" / "node_modules"),
    }
    built = subprocess.run(
        ["go", "build", "-o", f"{tmp_path}/", "./users", "./processor"], cwd=HYBRID, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    running = Programs(tmp_path, environment)
    yield running
    running.stop()


class Programs:
    def __init__(self, folder: pathlib.Path, environment: dict):
        self.folder, self._environment, self._running = folder, environment, []

    def run(self, *command) -> None:
        done = subprocess.run(
            command, cwd=HYBRID, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str, *command, says: str = "") -> subprocess.Popen:
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=HYBRID, env=self._environment, stdout=output, stderr=output)
        self._running.append(process)
        eventually(f"{name} is up", lambda: says in log.read_text())
        return process

    def said(self, name: str) -> list:
        return (self.folder / f"{name}.log").read_text().splitlines()

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait(PATIENCE_S)


@pytest.mark.shows("boto3", "orders on Kafka, users over NATS, notifications over SQS: each order is told of", protocol="SQS")
def test_orders_pass_through_four_clients(programs):
    need("WIREMILL_ADMIN")
    programs.run("./setup.sh")
    first = programs.start("users-1", programs.folder / "users", says="serving")
    programs.start("users-2", programs.folder / "users", says="serving")
    processor = programs.start("processor-1", programs.folder / "processor", says="processing")
    programs.start("notifier", sys.executable, "notifier.py")
    programs.run("node", "orders.cjs", str(ORDERS // 2))
    eventually("the first orders are told of", lambda: len(set(programs.said("notifier"))) == ORDERS // 2)
    assert not told_twice(programs)
    # One instance leaves in order, and the processor without a word.
    first.send_signal(signal.SIGTERM)
    processor.kill()
    programs.run("node", "orders.cjs", str(ORDERS))
    programs.start("processor-2", programs.folder / "processor", says="processing")
    expected = {f"order {n} to user-{n % 3}@example.com" for n in range(ORDERS)}
    eventually("every order is told of", lambda: set(programs.said("notifier")) == expected)
    assert first.wait(PATIENCE_S) == 0


def told_twice(programs) -> list:
    return [line for line, count in collections.Counter(programs.said("notifier")).items() if count > 1]

"""Points moto's own tests of SQS, in their server mode, at a broker of ours.

Nothing of the tests is changed but the address. Those in `exceptions.toml` are expected to fail: one that
passes fails the run, and so does one that is listed and no longer there.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import tomllib
import urllib.request

import pytest

FOLDER = pathlib.Path(__file__).parent
EXCEPTIONS = tomllib.loads((FOLDER / "exceptions.toml").read_text(encoding="utf-8"))
ALL_LISTENERS = ["kafka", "amqp", "nats", "redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"]
START_LIMIT_S = 60


class Broker:
    """An ephemeral broker, which can be emptied before each test as the tests expect."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="wiremill-moto-")
        ready = pathlib.Path(self.folder.name) / "ready.json"
        arguments = [os.environ["WIREMILL_BIN"], "serve", "--ephemeral", "--ready-file", ready, "--aws-strict-timing"]
        for name in ("aws", "admin"):
            arguments += ["--listen", f"{name}=127.0.0.1:0"]
        for name in ALL_LISTENERS:
            arguments += ["--listen", f"{name}=off"]
        self.log = open(pathlib.Path(self.folder.name) / "broker.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            addresses = self._await(ready)
        except BaseException:
            self.stop()
            raise
        self.aws, self.admin = (f"http://{addresses[name]}" for name in ("aws", "admin"))

    def _await(self, ready: pathlib.Path) -> dict:
        deadline = time.monotonic() + START_LIMIT_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise pytest.UsageError(f"the broker is not ready: {self.log.read()}")
            time.sleep(0.01)
        return json.loads(ready.read_text(encoding="utf-8"))

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.admin}/reset", method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status < 300

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    broker = Broker()
    early_config.stash[BROKER] = broker
    early_config.add_cleanup(broker.stop)
    # moto reads these when it is first imported, which the tests' conftest does.
    os.environ.update({
        "TEST_SERVER_MODE": "true",
        "TEST_SERVER_MODE_ENDPOINT": broker.aws,
        "MOTO_CALL_RESET_API": "false",
        # An access key of twelve digits is an account: the one that the tests expect.
        "AWS_ACCESS_KEY_ID": "123456789012",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    })


BROKER = pytest.StashKey[Broker]()


def pytest_configure():
    from moto import settings
    from moto.core.config import default_user_config

    assert settings.TEST_SERVER_MODE
    # Keeps the credentials that are set above.
    default_user_config["core"]["mock_credentials"] = False


def pytest_ignore_collect(collection_path, config):
    return True if collection_path.name in EXCEPTIONS["files"] else None


def pytest_collection_modifyitems(items):
    listed = dict(EXCEPTIONS["tests"])
    for item in items:
        # All parameters of a test, or one of them, may be listed.
        names = [f"{item.path.name}::{name}" for name in (item.name, getattr(item, "originalname", item.name))]
        for name in names:
            if name in EXCEPTIONS["tests"]:
                listed.pop(name, None)
                item.add_marker(pytest.mark.xfail(strict=True, reason=EXCEPTIONS["tests"][name]))
                break
    if listed and len(items) > 100:
        raise pytest.UsageError(f"listed as exceptions but not there: {', '.join(listed)}")


@pytest.fixture(autouse=True)
def empty_broker(request):
    request.config.stash[BROKER].reset()


def pytest_sessionfinish(session, exitstatus):
    folder = os.environ.get("WIREMILL_RESULTS")
    if not folder or session.testscollected < 100:
        return
    line = {
        "protocol": "SQS",
        "capability": "moto's own tests of SQS, in server mode, but for the listed exceptions",
        "client": "moto",
        "version": (FOLDER / "requirements.txt").read_text(encoding="utf-8").split("moto==")[1].split()[0],
        "result": "passed" if exitstatus == 0 else "failed",
    }
    with open(pathlib.Path(folder) / "moto.jsonl", "w", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

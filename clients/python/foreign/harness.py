"""Points the tests that ship with AMQP clients for Python at brokers of ours, one with TLS and one without.

Nothing of the tests is changed but for longer time limits: they are told addresses in their own variables, get the certificates that they look for,
and a container is a broker. Those in `exceptions.toml` are expected to fail: one that passes fails the run, and so does
one that is listed and no longer there. A few race with themselves and are not run; they are listed there too. Those that
their authors mark as flaky run again as often as the mark says.
"""

import importlib
import importlib.metadata
import json
import os
import pathlib
import sys
import tomllib

import pytest

import brokers

FOLDER = pathlib.Path(__file__).resolve().parent
SOURCES = FOLDER.parent / ".foreign"
EXCEPTIONS = tomllib.loads((FOLDER / "exceptions.toml").read_text(encoding="utf-8"))
PACKAGES = {"amqp": "amqp", "kombu": "kombu", "aio_pika": "aio-pika"}
# What is run of each, as the compatibility page says it.
TESTS = {
    "amqp": "the integration tests that ship with the client",
    "kombu": "the integration tests over py-amqp that ship with the client",
    "aio_pika": "the tests that ship with the client",
}


def pytest_addoption(parser):
    parser.addini("foreign", "whose tests these are: a folder of .foreign")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    name = early_config.getini("foreign")
    sys.path.insert(0, str(SOURCES / name))
    # Some of the tests name files from the folder that they lie in.
    os.chdir(SOURCES / name)
    plain = _started(early_config)
    secure = _started(early_config, tls="amqp")
    ports = {"5672/tcp": _port(plain), "5671/tcp": _port(secure)}
    os.environ.update({
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_5672_TCP": str(ports["5672/tcp"]),
        "RABBITMQ_5671_TCP": str(ports["5671/tcp"]),
    })
    if name == "amqp":
        _lay_certificates(pathlib.Path("t/certs"), secure)
    if name == "aio_pika":
        _stand_in_for_docker(ports)
        _stretch_limits()


def _started(config, **options):
    manager = brokers.started("--ephemeral", used=("amqp", "admin"), **options)
    broker = manager.__enter__()
    config.add_cleanup(lambda: manager.__exit__(None, None, None))
    return broker


def _port(broker) -> int:
    return int(broker.address("amqp").rpartition(":")[2])


def _lay_certificates(folder: pathlib.Path, broker) -> None:
    folder.mkdir(exist_ok=True)
    certificate, key = pathlib.Path(broker.certificate), pathlib.Path(broker.certificate).with_name("key.pem")
    for name, text in (
        ("ca_certificate", certificate.read_text()), ("client_certificate", certificate.read_text()),
        ("client_key", key.read_text()), ("client_certificate_broken", "broken"), ("client_key_broken", "broken"),
    ):
        (folder / f"{name}.pem").write_text(text)


def _stand_in_for_docker(ports) -> None:
    """What the tests ask for a container with RabbitMQ gives a broker instead."""
    docker = importlib.import_module("tests.docker_client")

    class Brokers:
        """The first container is the shared pair of brokers, each other one a broker of its own."""

        known = {}

        def __init__(self, *_):
            pass

        def run(self, _image, wanted, environment=None):
            if not self.known:
                self.known["shared"] = None
                return docker.ContainerInfo(id="shared", host="127.0.0.1", ports=ports)
            name = str(len(self.known))
            manager = brokers.started(used=("amqp", "admin"))
            self.known[name] = manager, manager.__enter__()
            return docker.ContainerInfo(id=name, host="127.0.0.1", ports=self._parse_ports(name))

        def _parse_ports(self, name):
            return {"5672/tcp": _port(self.known[name][1])}

        def inspect(self, name):
            return name

        def start(self, name):
            self.known[name][1].start()

        def kill(self, name):
            if self.known[name]:
                self.known[name][1].kill()

        def remove(self, name):
            if self.known[name]:
                self.known[name][0].__exit__(None, None, None)

    docker.check_docker_available = lambda: None
    docker.DockerClient = Brokers


def _stretch_limits() -> None:
    """The tests' own limits are for a machine that does nothing else; they are bounds, and nothing that is shown."""
    aiomisc = importlib.import_module("aiomisc")
    limit = aiomisc.timeout
    aiomisc.timeout = lambda seconds: limit(4 * seconds)


def pytest_configure(config):
    config.addinivalue_line("markers", "env(name): the server that a test needs")


def _is_one_test(config) -> bool:
    return config.getoption("keyword") or any("::" in word for word in config.args)


def pytest_collection_modifyitems(config, items):
    name = config.getini("foreign")
    exceptions = dict(EXCEPTIONS.get(name, {}))
    races = exceptions.pop("races", {})
    collected = {str(item.path.relative_to(SOURCES / name)) for item in items}
    listed = {test for test in (*exceptions, *races) if test.partition("::")[0] in collected}
    for item in list(items):
        path = item.path.relative_to(SOURCES / name)
        test = f"{path}::{item.nodeid.partition('::')[2]}"
        # All parameters of a test, or one of them, may be listed.
        for key in (test, test.partition("[")[0]):
            if key in races:
                listed.discard(key)
                items.remove(item)
                break
            if key in exceptions:
                listed.discard(key)
                item.add_marker(pytest.mark.xfail(strict=True, reason=exceptions[key]))
                break
    if listed and not _is_one_test(config):
        raise pytest.UsageError(f"listed as exceptions but not there: {', '.join(listed)}")


def pytest_sessionfinish(session, exitstatus):
    folder = os.environ.get("WIREMILL_RESULTS")
    if not folder or _is_one_test(session.config):
        return
    name = session.config.getini("foreign")
    line = {
        "protocol": "AMQP",
        "capability": f"{TESTS[name]}, but for the listed exceptions",
        "client": PACKAGES[name],
        "version": importlib.metadata.version(PACKAGES[name]),
        "result": "passed" if exitstatus == 0 else "failed",
    }
    with open(pathlib.Path(folder) / f"foreign-{name}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

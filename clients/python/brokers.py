"""A broker that a test owns: it may be killed and started again on the same data and address."""

import contextlib
import json
import pathlib
import resource
import signal
import subprocess
import tempfile

from kit import PATIENCE_S, eventually, need

USED = ("nats", "admin")
ALL = ("kafka", "amqp", "nats", "aws", "redis", "pulsar", "registry", "admin", "rabbitmq-admin", "pulsar-admin")


class Broker:
    def __init__(self, folder: pathlib.Path, extra, used):
        self._folder, self._extra = folder, list(extra)
        self._addresses = {name: "127.0.0.1:0" for name in used}
        self._process = None

    @property
    def nats(self) -> str:
        return self._addresses["nats"]

    def address(self, listener: str) -> str:
        return self._addresses[listener]

    @property
    def certificate(self) -> str:
        return str(self._folder / "certificate.pem")

    def start(self, file_len_max: int | None = None) -> None:
        """Runs the binary and returns when it is ready; its writes beyond `file_len_max` of a file fail."""
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        listeners = [f"{name}={address}" for name, address in self._addresses.items()] + [f"{name}=off" for name in ALL if name not in self._addresses]
        words = [word for listener in listeners for word in ("--listen", listener)]
        log = self._folder / "broker.log"

        def limit():
            if file_len_max:
                # An error of the write instead of a signal.
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_len_max, file_len_max))

        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [need("WIREMILL_BIN"), "serve", "--data-dir", self._folder / "data", "--ready-file", ready, *words, *self._extra],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=limit,
            )

        def is_ready():
            assert self._process.poll() is None, log.read_text()
            return ready.exists()

        eventually("the broker is ready", is_ready)
        self._addresses = json.loads(ready.read_text())

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def ended(self) -> int:
        """Waits until the process ends by itself, and gives its exit code."""
        return self._process.wait(PATIENCE_S)

    def command(self, *words: str) -> str:
        """Runs a command of the binary against this broker, and gives what it printed."""
        words = [need("WIREMILL_BIN"), *words, "--admin", f"http://{self._addresses['admin']}"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def started(*extra: str, tls: str | None = None, used=USED, file_len_max: int | None = None):
    """A broker for one test with the listeners `used`; `tls` names the one that has a certificate of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if tls:
            certificate, key = folder / "certificate.pem", folder / "key.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate],
                check=True, capture_output=True,
            )
            extra = (*extra, "--tls-cert", f"{tls}={certificate}", "--tls-key", f"{tls}={key}")
        broker = Broker(folder, extra, used)
        try:
            broker.start(file_len_max)
            yield broker
        finally:
            broker.kill()

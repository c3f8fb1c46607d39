"""Workers as processes of their own: started with a file for what they say, killed, and drained."""

import pathlib
import signal
import subprocess
import sys

from kit import PATIENCE_S, eventually

PROGRAMS = pathlib.Path(__file__).parent / "programs"


class Worker:
    """A process that runs a program, and the lines that it wrote so far."""

    def __init__(self, program: str, log: pathlib.Path, *arguments):
        self.log = log
        with open(log, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen([sys.executable, PROGRAMS / program, *arguments], stdout=output)

    def lines(self) -> list:
        # The last line may be half written.
        return self.log.read_text(encoding="utf-8").split("\n")[:-1]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def drain(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0
        assert self.lines()[-1] == "drained"


class BodyWorker(Worker):
    """A worker that tells of each message by its body: `took BODY COUNT`, `done BODY TIME` and `failed BODY`."""

    def told(self, body: str) -> list:
        """What became of one message, without the times."""
        return [line.rsplit(" ", line.startswith("done"))[0] for line in self.lines() if line.split()[1:2] == [body]]

    def done(self) -> list:
        """(time, body) of what it finished."""
        words = [line.split() for line in self.lines()]
        return [(int(line[2]), line[1]) for line in words if line[0] == "done"]

    def awaits(self, line: str):
        eventually(f"a worker says {line}", lambda: line in self.lines())

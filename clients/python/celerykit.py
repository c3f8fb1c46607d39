"""A Celery application under test: its own names, the folder its tasks tell in, workers that are processes of their own."""

import os
import pathlib
import signal
import subprocess
import sys

from kit import PATIENCE_S, eventually

PROGRAMS = pathlib.Path(__file__).parent / "programs"


class Site:
    def __init__(self, application: str, folder: pathlib.Path, environment: dict, *worker_options: str):
        self.application, self.folder, self.worker_options = application, folder, worker_options
        self.environment = {**os.environ, "TASKS_FOLDER": str(folder), **environment}
        self.workers = []

    def send(self, calls: str) -> str:
        """Something of the application in a process of its own, as a web server that sends tasks is; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", f"import time; from {self.application} import *; {calls}"],
            cwd=PROGRAMS, env=self.environment, check=True, timeout=PATIENCE_S, stdout=subprocess.PIPE, text=True,
        )
        return done.stdout

    def worker(self) -> subprocess.Popen:
        with open(self.folder / "worker.log", "a", encoding="utf-8") as log:
            self.workers.append(subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", self.application, "worker", "--loglevel", "INFO", *self.worker_options],
                cwd=PROGRAMS, env=self.environment, stdout=log, stderr=log,
            ))
        return self.workers[-1]

    def told(self, name: str) -> list:
        path = self.folder / name
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def awaits(self, name: str, lines: list) -> None:
        try:
            eventually(f"{name} is {lines}", lambda: self.told(name) == lines)
        except BaseException:
            print(self.told(name), (self.folder / "worker.log").read_text(encoding="utf-8"))
            raise

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                kill(worker)


def kill(worker: subprocess.Popen) -> None:
    """The worker and its pool, as a machine that goes away takes them. They are in this process's own group, so that they
    do not outlive a run that is killed."""
    # It shall not see its pool go, nor make another.
    worker.send_signal(signal.SIGSTOP)
    for child in children(worker.pid):
        os.kill(child, signal.SIGKILL)
    worker.kill()
    worker.wait(PATIENCE_S)


def children(parent: int) -> list:
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may have any sign in it: the state, then the parent.
            _, owner = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == parent:
            found.append(int(path.parent.name))
    return found

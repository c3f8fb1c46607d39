"""What the suites share: where the broker is, names that collide with nobody's, patience."""

import itertools
import os
import time

import pytest

PATIENCE_S = 60

_names = itertools.count()


def need(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run this suite through `cargo xtask test --only python`")
    return value


def kafka_address() -> str:
    return need("WIREMILL_KAFKA")


def unique(prefix: str) -> str:
    """A name that no other test and no earlier run uses."""
    return f"{prefix}-{os.getpid()}-{time.time_ns()}-{next(_names)}"


def eventually(what: str, holds, limit_s: float = PATIENCE_S):
    """Waits until `holds` gives something true, and returns that."""
    deadline = time.monotonic() + limit_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit_s} s in vain: {what}")
        time.sleep(0.02)

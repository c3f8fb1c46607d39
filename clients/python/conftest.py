"""Writes a result line for each test that shows something."""

import importlib.metadata
import json
import os
import pathlib

import pytest


def pytest_addoption(parser):
    parser.addini("client_suffix", "what to add to the names of clients, where older ones run the same tests", default="")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("shows")
    # A test that breaks while it is set up never reaches its call.
    if marker and (report.when == "call" or (report.when == "setup" and not report.passed)):
        client, capability = marker.args
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        _record({
            "protocol": marker.kwargs.get("protocol", "Kafka"),
            "capability": capability.format(**parameters),
            "client": f"{client} {item.config.getini('client_suffix')}".strip(),
            "version": importlib.metadata.version(client),
            "result": "passed" if report.passed else "failed",
        })
    return report


def _record(line: dict) -> None:
    folder = os.environ.get("WIREMILL_RESULTS")
    if not folder:
        return
    with open(pathlib.Path(folder) / f"python-{os.getpid()}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

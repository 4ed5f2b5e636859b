from __future__ import annotations

import json
import subprocess
import sys

import pytest


FOREIGN = {
    "dsm_emulator",
    "httptools",
    "kms_conformance",
    "starlette",
    "trustme",
    "uvicorn",
    "yaml",
}


def loaded_by(module: str) -> set[str]:
    """Return the top-level modules that are there once *module* is imported."""
    script = f"import {module}, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("name", ["daemon", "check", "call", "cli"])
def test_command_of_the_daemon_needs_no_extra(name: str) -> None:
    assert not loaded_by(f"k8s_sdkms_plugin.{name}") & FOREIGN


def test_daemon_loads_nothing_of_the_commands_beside_it() -> None:
    script = (
        "import k8s_sdkms_plugin.daemon, json, sys; print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    )
    loaded = json.loads(done.stdout)
    beside = ("k8s_sdkms_plugin.render", "k8s_sdkms_plugin.verify")
    assert not [name for name in loaded if name.startswith(beside)]


def test_command_line_itself_imports_no_library() -> None:
    heavy = {"grpc", "httpx", "aiohttp", "attrs", "cattrs", "structlog", "google"}
    assert not loaded_by("k8s_sdkms_plugin.cli") & heavy

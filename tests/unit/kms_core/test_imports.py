"""What the core may import, and what it offers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import kms_core


ALLOWED = {"attrs", "cbor2", "cryptography", "kms_core"} | sys.stdlib_module_names
# I/O, threads and the environment are passed in; the core must not reach for them.
FORBIDDEN = {
    "http",
    "multiprocessing",
    "os",
    "requests",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
FOLDER = Path(kms_core.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))


def imported_by(source: str) -> set[str]:
    """Return the full names of the modules that *source* imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"__import__", "import_module", "importlib.import_module"}:
                found.add("dynamic " + ast.unparse(node))
    return found


def refused(source: str) -> set[str]:
    return {
        name
        for name in imported_by(source)
        if (top := name.split(".")[0]) not in ALLOWED or top in FORBIDDEN
    }


def test_core_imports_only_what_it_is_allowed_to() -> None:
    assert len(MODULES) > 10
    offenders = {
        module.name: names
        for module in MODULES
        if (names := refused(module.read_text(encoding="utf-8")))
    }
    assert offenders == {}


def test_the_walk_finds_what_is_not_allowed() -> None:
    for source in (
        "import httpx",
        "import grpc.aio",
        "from adapters_dsm import client",
        "from .errors import KmsError",
        "def f():\n    import socket",
        "if TYPE_CHECKING:\n    from httpx import Client",
        "import importlib\nimportlib.import_module('httpx')",
        "__import__('httpx')",
    ):
        assert refused(source), source
    assert not refused("from kms_core.errors import KmsError\nimport asyncio")


def test_the_core_reads_neither_clock_nor_environment_by_itself() -> None:
    reading = {"datetime.now", "dt.datetime.now", "dt.datetime.today", "open", "print"}
    for module in MODULES:
        if module.name == "system.py":
            # The Clock and the Randomness of the running process live here.
            continue
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in reading, module.name


def test_face_is_sorted_and_every_name_of_it_resolves() -> None:
    assert list(kms_core.__all__) == sorted(kms_core.__all__)
    assert len(set(kms_core.__all__)) == len(kms_core.__all__)
    for name in kms_core.__all__:
        assert getattr(kms_core, name) is not None


def test_the_face_does_not_load_the_fakes() -> None:
    face = (FOLDER / "__init__.py").read_text(encoding="utf-8")
    assert "kms_core.fakes" not in imported_by(face)

"""The README's library example: a plugin for another key service, as a process."""

from __future__ import annotations

import ast
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from tests.unit.docs.site_of_readme import Site, read_until
from tests.unit.docs.support import README, Page

import kms_core
from adapters_grpc.client import CallFailed, KmsClient


PAGE = Page.read(README)
EXAMPLE = PAGE.block("python").text
NOT_OF_THE_CORE = {"EncryptionConfiguration"}


async def test_example_serves_kms_v2() -> None:
    seed = bytes(range(32))
    with tempfile.TemporaryDirectory(prefix="readme-") as name:
        folder = Path(name)
        program, socket = folder / "plugin.py", folder / "kms.sock"
        program.write_text(EXAMPLE)
        with Site(folder) as site:
            process = site.start(f"{sys.executable} {program} {socket}")
            read_until(process.stderr, "state='ready'")
            async with KmsClient(socket) as client:
                status = await client.status()
                sealed = await client.encrypt(seed, uid="readme")
                opened = await client.decrypt(sealed.ciphertext, sealed.key_id)
                changed = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
                with pytest.raises(CallFailed, match="SEALED-SEED-NOT-AUTHENTIC"):
                    await client.decrypt(changed, sealed.key_id)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        assert not socket.exists()
    assert (status.version, status.healthz) == ("v2", "ok")
    assert status.key_id == sealed.key_id == "example.v1:key-1"
    assert opened == seed


def test_example_imports_public_names_only() -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(EXAMPLE))
        if isinstance(node, ast.ImportFrom) and node.module == "kms_core"
        for alias in node.names
    }
    assert imported
    assert imported <= set(kms_core.__all__)


def test_names_of_classes_in_the_readme_are_public() -> None:
    named = set(re.findall(r"`([A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+)`", PAGE.prose))
    assert "KeyProvider" in named
    assert named - NOT_OF_THE_CORE <= set(kms_core.__all__)


def test_public_names_exist() -> None:
    assert all(hasattr(kms_core, name) for name in kms_core.__all__)

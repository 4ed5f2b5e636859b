"""Fixtures: an emulated DSM with a front before it, and a DSM down to the byte."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from dsm_emulator import Dsm, EmulatorServer


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

from tests.contract.dsm_faults.support import Front, TinyDsm
from tests.unit.adapters_dsm.support import API_KEY, Emulated, RawServer


if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def emulated() -> AsyncIterator[Emulated]:
    demo = Dsm.with_demo_key()
    server = EmulatorServer(demo.dsm)
    # Its start waits for a thread.
    await asyncio.to_thread(server.start)
    try:
        yield Emulated(demo, server)
    finally:
        await asyncio.to_thread(server.close)


@pytest.fixture
async def front(emulated: Emulated, tmp_path: Path) -> AsyncIterator[Front]:
    """Return a front before the emulator, its key proven."""
    async with Front(
        emulated.server.url,
        emulated.server.ca_file,
        tmp_path / "kms.sock",
        emulated.demo.api_key,
        emulated.demo.key.name or "",
        [emulated.demo.app.secret],
    ) as made:
        yield made


@pytest.fixture
def tiny() -> TinyDsm:
    return TinyDsm()


@pytest.fixture
async def raw(tiny: TinyDsm, authority: trustme.CA) -> AsyncIterator[RawServer]:
    """Return a server that answers as *tiny* says."""
    async with RawServer(tiny.answer, authority, on_login=tiny.answer) as server:
        yield server


@pytest.fixture
async def raw_front(
    raw: RawServer, authority: trustme.CA, tmp_path: Path
) -> AsyncIterator[Front]:
    """Return a front before it, its key proven."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with Front(
        raw.url,
        ca_file,
        tmp_path / "kms.sock",
        API_KEY,
        "a key",
        ["token-of-the-tiny-dsm"],
    ) as made:
        yield made

"""Fixtures of the DSM adapter's tests: a CA, adapters that get closed, a local DSM."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from dsm_emulator import Dsm, EmulatorServer


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

from tests.unit.adapters_dsm.support import Adapters, Emulated, SkippingClock


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
async def adapters(ca_file: Path, clock: SkippingClock) -> AsyncIterator[Adapters]:
    async with Adapters(ca_file, clock) as opened:
        yield opened


@pytest.fixture
def emulated() -> Iterator[Emulated]:
    demo = Dsm.with_demo_key()
    with EmulatorServer(demo.dsm) as server:
        yield Emulated(demo, server)

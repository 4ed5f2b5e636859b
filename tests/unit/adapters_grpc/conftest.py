"""Fixtures of the gRPC adapter's tests: a short directory, and a world to serve."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

from tests.unit.adapters_grpc.support import World


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's tmp_path can be longer than a socket's path may be.
    with tempfile.TemporaryDirectory(prefix="kms") as name:
        yield Path(name)


@pytest_asyncio.fixture
async def world(directory: Path) -> World:
    return World(directory)

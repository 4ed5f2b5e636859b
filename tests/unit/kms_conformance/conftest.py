"""Fixtures of the kit's tests: a short directory, and a correct plugin that serves."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

from tests.unit.kms_conformance.support import Site


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's tmp_path can be longer than a socket's path may be.
    with tempfile.TemporaryDirectory(prefix="kit") as name:
        yield Path(name)


@pytest_asyncio.fixture
async def site(directory: Path) -> AsyncIterator[Site]:
    async with Site(directory) as served:
        yield served

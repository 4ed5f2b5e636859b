"""Fixtures: a DSM with a daemon's config, and daemons that end with their test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

from tests.contract.daemon.support import Lab


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a DSM that listens, and what a daemon in front of it needs."""
    with Lab(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return the same with a daemon that is ready, for tests that break nothing."""
    with Lab(tmp_path_factory.mktemp("shared")) as made:
        made.start().await_line(event="standing", state="ready")
        yield made

"""The image and the host bundle, built as `make image` and `make bundle` build them.

What is real here: the image's own files, entry point and user; its root read-only and
its capabilities dropped by the kernel; the bundle installed by its own script into
roots without a Python, of three Debian releases, and into one without a C library; the
daemon in them, and TLS to DSM. DSM is our emulator, on the loopback that the roots
share with the machine. What a container engine would do is done by `unshare`, `mount`
and `chroot`; systemd is not there.

They need root, and, when nothing is cached, Debian's packages and PyPI's:

    make ship

builds what is missing, for some minutes the first time, and runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest


# Tests are collected by path; their support is imported by name.
sys.path.append(str(Path(__file__).parents[2]))

from tests.e2e.harness.plugin import Emulator
from tests.e2e.harness.program import ROOT, Program
from tests.ship.jail import NO_CAPABILITIES, Jail


if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

BUILD_S: Final = 900.0
LOG_LINES: Final = 40

_FIGURES: Final[list[str]] = []


def built(command: Sequence[str | Path]) -> str:
    """Run one of our build scripts and return what it prints."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    if os.getuid() != 0:
        pytest.skip("roots are mounted and entered by root alone")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    made = Emulator(tmp_path_factory.mktemp("dsm"))
    try:
        made.start()
        yield made
    finally:
        for program in reversed(Program.every):
            program.close()


@pytest.fixture(scope="session")
def reference() -> str:
    return built(["scripts/image"])


@pytest.fixture(scope="session")
def image(reference: str) -> dict[str, Any]:
    """Return the image's config, as Docker's format has it."""
    inspect = ["scripts/image", "buildah", "inspect", "--type", "image", reference]
    config: dict[str, Any] = json.loads(built(inspect))["Docker"]["config"]
    return config


@pytest.fixture(scope="session")
def image_root(reference: str) -> Iterator[Path]:
    buildah = ["scripts/image", "buildah"]
    container = built([*buildah, "from", "--pull=never", reference])
    try:
        yield Path(built([*buildah, "mount", container]))
    finally:
        built([*buildah, "rm", container])


@pytest.fixture
def jail(image_root: Path) -> Jail:
    """Return the image as `--read-only --cap-drop ALL` runs it."""
    return Jail(root=image_root, read_only=True, first=NO_CAPABILITIES)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(built(["scripts/bundle", tmp_path_factory.mktemp("dist")]))


@pytest.fixture
def figure() -> list[str]:
    """Return where a test leaves a figure for the end of the report."""
    return _FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _FIGURES:
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    report = yield
    if report.failed:
        for program in Program.every:
            if text := program.new_output(LOG_LINES):
                report.sections.append((f"{program.log}", text))
    return report

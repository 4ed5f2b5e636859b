"""The pytest plugin in a project that is not ours, as a process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest
from tests.unit.kms_conformance.support import Site

from kms_conformance.options import HOOKS, REPORTS, SELECTION, SOCKET
from kms_conformance.pytest_plugin import option_name
from kms_conformance.reference import ReferencePlugin


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import StatusRequest, StatusResponse


class _SealsInTheOpen(ReferencePlugin):
    """A MUST and a SHOULD of Status fail on it: healthz, and the key_id's text."""

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.healthz = "fine"
        return answer


@pytest.fixture
def project(directory: Path) -> Path:
    """Return a project with a test, in which warnings are errors."""
    folder = directory / "foreign"
    folder.mkdir()
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = -rsxfE --strict-markers --strict-config\n"
        "filterwarnings = error\n"
    )
    (folder / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    return folder


async def pytest_in(project: Path, *words: str | Path) -> tuple[int, str]:
    """Run pytest there, with the kit as its only plugin, while plugins serve here."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pytest", "-p", "kms_conformance.pytest_plugin"),
        *map(str, words),
        cwd=project,
        env=mine | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def at(site: Site, *words: str) -> list[str]:
    return ["--kms-socket", f"unix://{site.plugin.path}", "--kms-quick", *words]


async def test_checks_are_collected_beside_the_tests_of_a_foreign_project(
    site: Site, project: Path
) -> None:
    code, out = await pytest_in(project, "-v", *at(site, "--kms-only", "S02,D04,T01"))
    assert code == 0, out
    assert "test_theirs.py::test_theirs PASSED" in out
    for check_id in ("S02", "D04", "T01"):
        assert f"kms_conformance::{check_id} PASSED" in out
    assert "4 passed" in out
    assert f"kms_conformance: unix://{site.plugin.path}, quick run, --kms-seed" in out


async def test_checks_need_no_test_of_the_project(site: Site, project: Path) -> None:
    (project / "test_theirs.py").unlink()
    code, out = await pytest_in(project, *at(site, "--kms-only", "S", "-k", "S02"))
    assert code == 0, out
    assert "1 passed" in out


async def test_without_a_socket_nothing_is_added(project: Path) -> None:
    code, out = await pytest_in(project)
    assert code == 0, out
    assert "1 passed" in out
    assert "kms_conformance:" not in out


async def test_check_without_its_hook_is_skipped_with_the_option_that_runs_it(
    site: Site, project: Path
) -> None:
    code, out = await pytest_in(project, *at(site, "--kms-only", "R05,R12"))
    assert code == 0, out
    assert "needs --kms-rotate" in out
    assert "needs --kms-peer" in out
    assert "2 skipped" in out


async def test_failed_must_says_what_was_sent_what_came_why_and_the_source(
    directory: Path, project: Path
) -> None:
    async with Site(directory, _SealsInTheOpen) as site:
        page, xml, numbers = (directory / f"r.{x}" for x in ("html", "xml", "json"))
        code, out = await pytest_in(
            project,
            *at(site, "--kms-only", "S03", "--kms-html", str(page)),
            *("--kms-junit", xml, "--kms-json", numbers),
        )
    assert code == 1
    assert "S03 MUST failed:" in out
    for label in ("sent", "came", "expected", "why", "source", "call"):
        assert f"\n  {label} " in out
    assert "Traceback" not in out
    assert "does NOT conform" in page.read_text()
    assert "<failure" in xml.read_text()
    assert json.loads(numbers.read_text())["conforms"] is False


async def test_failed_should_is_an_xfail_and_fails_nothing(
    site: Site, project: Path
) -> None:
    # The reference's hooks are in this process: this command does not stop it.
    hooks = ("--kms-stop", "true", "--kms-start", "true")
    code, out = await pytest_in(project, *at(site, "--kms-only", "L05", *hooks))
    assert code == 0, out
    assert "1 xfailed" in out
    assert "SHOULD: the socket is still there" in out


async def test_order_is_the_kits_whatever_shuffles_the_items(
    site: Site, project: Path
) -> None:
    (project / "conftest.py").write_text(
        "def pytest_collection_modifyitems(items):\n    items.reverse()\n"
    )
    code, out = await pytest_in(project, "-v", *at(site, "--kms-only", "T01,S02,D04"))
    assert code == 0, out
    places = [out.index(f"::{check_id} PASSED") for check_id in ("T01", "S02", "D04")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kms-socket", "x.sock"), "no endpoint"),
        (("--kms-socket", "/x", "--kms-only", "Q"), "'Q'"),
        (("--kms-socket", "/x", "--kms-only", "R12", "--kms-json", "."), "directory"),
    ],
)
async def test_wrong_option_is_a_usage_error(
    project: Path, words: tuple[str, ...], said: str
) -> None:
    code, out = await pytest_in(project, *words)
    assert code == pytest.ExitCode.USAGE_ERROR, out
    assert said in out
    assert "INTERNALERROR" not in out


@pytest.mark.parametrize("given", ["--workers=2", "--spread=load"])
async def test_workers_of_xdist_are_refused(project: Path, given: str) -> None:
    (project / "fake_xdist.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--workers', dest='numprocesses')\n"
        "    parser.addoption('--spread', dest='dist', default='no')\n"
    )
    words = ("-p", "fake_xdist", given, "--kms-socket", "/x")
    code, out = await pytest_in(project, *words)
    assert code == pytest.ExitCode.USAGE_ERROR, out
    assert "can't run with -n" in out


async def test_reports_are_written_without_a_terminal(
    site: Site, project: Path
) -> None:
    words = at(site, "--kms-only", "S02", "--kms-json", "report.json")
    code, out = await pytest_in(project, "-p", "no:terminal", "-o", "addopts=", *words)
    assert code == 0, out
    assert json.loads((project / "report.json").read_text())["counts"]["passed"] == 1


async def test_collecting_alone_leaves_reports_as_they_are(
    site: Site, project: Path
) -> None:
    path = project / "report.json"
    path.write_text("of a run")
    words = at(site, "--kms-only", "S02", "--kms-json", str(path), "--collect-only")
    code, out = await pytest_in(project, *words)
    assert code == 0, out
    assert "S02" in out
    assert path.read_text() == "of a run"


def test_plugin_is_no_automatic_entry_point() -> None:
    ours = [one for one in entry_points(group="pytest11") if "kms" in one.value]
    assert ours == []


def test_each_option_of_the_command_line_has_a_spelling_of_its_own() -> None:
    flags = [one.flag for one in (SOCKET, *SELECTION, *REPORTS, *HOOKS)]
    names = {option_name(flag) for flag in flags}
    assert len(names) == len(flags)
    assert all(name.startswith("--kms-") for name in names)
    assert {"--kms-socket", "--kms-calls", "--kms-rotate"} <= names

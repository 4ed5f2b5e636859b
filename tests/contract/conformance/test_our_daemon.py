"""Our daemon passes the conformance kit, with every hook, over both protections.

All checks but the slow ones, with fewer requests; `make conformance` runs all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, frozen

from k8s_sdkms_plugin.config.model import Protection
from k8s_sdkms_plugin.conformance_site import BreakBy, Site
from k8s_sdkms_plugin.own_processes import NotStarted, start_daemon
from k8s_sdkms_plugin.self_conformance import Silence, make_corpus
from kms_conformance.checks import everything
from kms_conformance.outcome import Verdict
from kms_conformance.runner import Plan, run
from kms_conformance.scale import QUICK
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kms_conformance.check import Check
    from kms_conformance.report import Result


NOT_OURS = {
    "T16": "the socket is a file",
    "D10": "Encrypt gives no annotations",
    "D11": "Encrypt gives no annotations",
    "D13": "Encrypt gives no annotations",
    "V01": "v1beta1 is not served",
    "V02": "v1beta1 is not served",
    "V03": "v1beta1 is not served",
    "V05": "v1beta1 is not served",
}
"""The checks that do not apply to our daemon; any other that is not run is a fault."""


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's tmp_path can be longer than a socket's path may be.
    with tempfile.TemporaryDirectory(prefix="kms") as name:
        yield Path(name)


@frozen
class Found:
    """What became of a site.

    Attributes:
        protection: How its daemons protect seeds.
        results: What the kit found.
        pids: The processes that there were at the end.
    """

    protection: Protection
    results: tuple[Result, ...]
    pids: tuple[int, ...]


@pytest.fixture(scope="module")
def found() -> list[Found]:
    """Return what the kit finds.

    The sites run at once, and two share the checks of a protection, since they mostly
    wait for what a daemon does a second later.
    """

    async def every() -> list[Found]:
        return await asyncio.gather(
            *(
                conformance(protection, shared_out(stops_or_breaks=stops_or_breaks))
                for protection in Protection
                for stops_or_breaks in (False, True)
            )
        )

    return asyncio.run(every())


def shared_out(*, stops_or_breaks: bool) -> tuple[Check, ...]:
    disturbing = {Hook.BREAK, Hook.STOP, Hook.KILL}
    return tuple(
        one
        for one in everything()
        if not one.slow and bool(disturbing & set(one.needs)) is stops_or_breaks
    )


async def conformance(protection: Protection, chosen: tuple[Check, ...]) -> Found:
    with (
        tempfile.TemporaryDirectory(prefix="kms") as name,
        Site(Path(name), protection) as site,
    ):
        await make_corpus(site.target)
        # Where others use the processors, too, a call may need longer than 3 s.
        scale = evolve(QUICK, timeout_s=10.0)
        report = await run(Plan(site.target, chosen, scale, 1), Silence())
        pids = (site.plugin.pid, site.peer.pid)
        return Found(protection, report.results, pids)


@pytest.mark.parametrize("protection", list(Protection), ids=lambda one: one.value)
def test_our_daemon_passes_every_check_that_applies(
    found: list[Found], protection: Protection
) -> None:
    ours = [
        one for site in found if site.protection is protection for one in site.results
    ]
    came = {
        verdict: {one.check.id: one.came for one in ours if one.verdict is verdict}
        for verdict in Verdict
    }
    assert came[Verdict.FAILED] == {}
    assert came[Verdict.NOT_RUN].keys() == NOT_OURS.keys(), came[Verdict.NOT_RUN]
    assert len(ours) == sum(not one.slow for one in everything())


def test_sites_end_their_daemons(found: list[Found]) -> None:
    assert not any(_exists(pid) for site in found for pid in site.pids)


def test_site_has_every_hook(folder: Path) -> None:
    with Site(folder, Protection.LOCAL_KEK) as site:
        assert all(site.target.offers(hook) for hook in Hook)


async def test_hooks_that_can_do_nothing_say_so(folder: Path) -> None:
    with Site(folder, Protection.LOCAL_KEK) as site:
        pulls = site.target.pulls
        assert (await pulls[Hook.BACK]()).exit_code == 1
        second = await pulls[Hook.START]()
        assert second.exit_code != 0
        assert "it ended" in second.output
        assert (await pulls[Hook.STOP]()).exit_code == 0
        assert (await pulls[Hook.KILL]()).exit_code == 0
        with pytest.raises(ProcessLookupError):
            assert site.plugin.pid
    # The emulator has gone with its site.
    assert (await pulls[Hook.ROTATE]()).exit_code == 1


def test_daemon_that_cannot_start_takes_the_emulator_with_it(folder: Path) -> None:
    (folder / "kms.sock").write_text("no socket")
    with pytest.raises(NotStarted, match="a daemon did not start"):
        Site(folder, Protection.DIRECT).__enter__()
    # It takes its description away when it ends, and so it has ended.
    assert not (folder / "dsm" / "emulator.json").exists()


def test_daemon_whose_start_is_interrupted_does_not_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(config: Path, log: Path) -> subprocess.Popen[bytes]:
        started.append(start_daemon(config, log))
        return started[-1]

    def interrupted(path: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("k8s_sdkms_plugin.conformance_site.start_daemon", start)
    monkeypatch.setattr("k8s_sdkms_plugin.conformance_site._listener", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Site(folder, Protection.DIRECT).__enter__()
    assert [one.returncode is None for one in started] == [False]


def self_conformance(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "k8s_sdkms_plugin", "conformance", "--self"]
    return subprocess.run(
        [*command, *words], check=False, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("broken_by", list(BreakBy), ids=lambda one: one.value)
def test_profile_runs_hooks_and_writes_reports(
    folder: Path, broken_by: BreakBy
) -> None:
    path = folder / "report.json"
    ended = self_conformance(
        *("--only", "S02,E14,R12", "--break-by", broken_by.value, "--json", str(path))
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(path.read_text())
    assert report["counts"]["passed"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--socket", "/x"), "no --socket"),
        (("--rotate=true",), "no --rotate"),
        (("--protection", "none"), "invalid choice"),
    ],
)
def test_profile_takes_no_plugin_and_no_hook(words: tuple[str, ...], said: str) -> None:
    ended = self_conformance(*words)
    assert ended.returncode == 2
    assert said in ended.stderr


def test_profile_lists_checks_without_starting_anything() -> None:
    ended = self_conformance("--list", "--only", "S02")
    assert (ended.returncode, ended.stdout[:3]) == (0, "S02")


def test_profile_that_is_stopped_ends_what_it_started(folder: Path) -> None:
    command = [sys.executable, "-m", "k8s_sdkms_plugin", "conformance", "--self"]
    with subprocess.Popen(
        [*command, "--only", "T10"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=dict(os.environ, TMPDIR=str(folder)),
    ) as process:
        (made,) = _eventually(lambda: list(folder.glob("kms-self-*/peer.sock")))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"stopped" in said
    assert not made.parent.exists()


def _eventually(look: Callable[[], list[Path]]) -> list[Path]:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

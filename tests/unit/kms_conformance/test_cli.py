from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kms_conformance.cli import main


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.support import Site


async def run_cli(*words: str | Path) -> tuple[int, str, str]:
    """Run the kit as a process while a plugin serves in this one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kms_conformance"),
        *map(str, words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_run_prints_progress_and_report_and_exits_0(
    site: Site, directory: Path
) -> None:
    path = directory / "report.json"
    code, out, err = await run_cli(
        *("--socket", f"unix://{site.plugin.path}", "--only", "s,d04", "--seed", "5"),
        *("--quick", "--json", path, "--peer", site.peer.path, "--pid", "1"),
    )
    assert code == 0
    assert "The plugin conforms." in out
    assert "--seed 5" in out
    assert "pass  S02 MUST" in err
    report = json.loads(path.read_text())
    ids = {one["id"] for one in report["results"]}
    assert {"S02", "D04"} <= ids
    assert {name[0] for name in ids} == {"S", "D"}
    assert (report["seed"], report["scale"]) == (5, "quick")


def test_plugin_that_is_not_there_fails(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("kms_conformance.presence.GONE_AFTER_S", 0.0)
    socket = str(directory / "none")
    words = ["--socket", socket, "--only", "S02,S03", "--timeout-s", "0.1"]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "does NOT conform" in out
    assert "nobody listened" in out
    assert "gone since S02" in out


async def test_hooks_are_commands(site: Site) -> None:
    code, out, _ = await run_cli(
        *("--socket", site.plugin.path, "--only", "S12"),
        *("--stop", "true", "--start", "echo refused; exit 5"),
    )
    assert code == 1
    assert "its command exited with 5: refused" in out


async def test_soak_is_as_long_as_the_flag_says(site: Site, directory: Path) -> None:
    path = directory / "report.json"
    code, _, _ = await run_cli(
        *("--socket", site.plugin.path, "--only", "L09", "--soak-s", "0.4"),
        *("--pid", str(os.getpid()), "--json", path),
    )
    assert code == 0
    (result,) = json.loads(path.read_text())["results"]
    measured = {one["name"]: one["value"] for one in result["measurements"]}
    assert measured["soak"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--socket"),
        (["--socket", "x.sock"], "no endpoint"),
        (["--socket", "/x", "--only", "Q"], "'Q'"),
        (["--socket", "/x", "--peer", "unix://a/b"], "two slashes"),
        (["--explain", "X99"], "X99"),
        (["--socket", "/x", "--only", "T01", "--skip", "T"], "leaves no check"),
        (["--socket", "/x", "--peer", "unix:///x"], "plugin's own socket"),
        (["--socket", "/x", "--only", "S02", "--junit", "/x/y/z.xml"], "/x/y/z.xml"),
    ],
)
def test_wrong_command_line_exits_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("flag", ["--timeout-s", "--soak-s", "--rotation-s"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_time_that_is_none_exits_2(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--socket", "/x", f"{flag}={value}"])
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err


def test_run_of_no_check_says_so_and_does_not_exit_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--socket", "/x", "--only", "R12"]) == 1
    said = capsys.readouterr().out
    assert "1 not run. Nothing was run." in said
    assert "conforms" not in said


def test_plugin_that_is_not_there_fails_a_run_of_no_must(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("kms_conformance.presence.GONE_AFTER_S", 0.0)
    socket = str(directory / "none")
    assert main(["--socket", socket, "--only", "T03", "--timeout-s", "0.1"]) == 1
    assert "does NOT conform" in capsys.readouterr().out


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_run_heals_what_it_has_broken(
    site: Site, directory: Path, signal_number: signal.Signals
) -> None:
    pulled = directory / "pulled"
    os.mkfifo(pulled)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kms_conformance", "--socket", str(site.plugin.path)),
        # The plugin says ok all the time, so that the check waits for what it says.
        *("--only", "S13", "--break", f"echo broken > {pulled}"),
        *("--heal", f"echo healed > {pulled}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert await asyncio.to_thread(pulled.read_text) == "broken\n"
    process.send_signal(signal_number)
    assert await asyncio.to_thread(pulled.read_text) == "healed\n"
    _, err = await process.communicate()
    assert process.returncode == 1
    # asyncio of Python 3.11 may say first that its watcher came too late to a child.
    assert err.decode().splitlines()[-1] == "conformance: stopped"


async def test_report_that_failed_keeps_no_other_from_being_written(
    site: Site, directory: Path
) -> None:
    path = directory / "report.xml"
    code, out, err = await run_cli(
        *("--socket", site.plugin.path, "--only", "S02"),
        *("--json", "/dev/full", "--junit", path),
    )
    assert code == 1
    assert "No space left" in err
    assert "The plugin conforms." in out
    assert 'tests="1"' in path.read_text()


def test_unknown_flag_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--sockets", "/x"])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_report_that_cannot_be_written_is_said(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--socket", "/x", "--only", "R12", "--json", str(directory)]
    assert main(words) == 2
    assert "directory" in capsys.readouterr().err


def test_list_prints_the_selection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "S02,R12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["S02", "MUST"], ["R12", "MUST"]]
    assert lines[1].endswith("--peer")


def test_explain_prints_one_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explain", "d04"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("D04 MUST")
    for word in ("sends", "expects", "why", "source", "needs"):
        assert f"  {word}" in said


def test_without_the_extra_one_line_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kms_conformance.cli.find_spec", lambda _: None)
    assert main(["--list"]) == 3
    assert "k8s-sdkms-plugin[conformance]" in capsys.readouterr().err


def test_terminal_shows_the_check_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    main(["--socket", "/x", "--only", "R12"])
    assert "1/1 R12 ..." in capsys.readouterr().err

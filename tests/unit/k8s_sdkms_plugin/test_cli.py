from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.k8s_sdkms_plugin.support import BASE, SECRET, written

from k8s_sdkms_plugin import cli
from k8s_sdkms_plugin.cli import main


if TYPE_CHECKING:
    import argparse


EXTRA = "k8s-sdkms-plugin[emulator]"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list to which each `serve` adds its arguments, serving nothing."""
    asked: list[Any] = []

    def serve(arguments: argparse.Namespace) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(cli, "_serve", serve)
    return asked


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "k8s_sdkms_plugin", *map(str, words)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, **options
    )


# What the Go plugin's users type.


@pytest.mark.parametrize(
    "words",
    [
        ["-config", "/f"],
        ["-config=/f"],
        ["--config", "/f"],
        ["--config=/f"],
        ["serve", "-config", "/f"],
        ["serve", "--config=/f"],
    ],
)
def test_daemon_serves_the_config_however_it_is_named(
    words: list[str], served: list[Any]
) -> None:
    assert main(words) == 0
    assert served[0].config == Path("/f")
    assert served[0].strict is False


@pytest.mark.parametrize("words", [[], ["serve"]])
def test_daemon_serves_the_default_config(words: list[str], served: list[Any]) -> None:
    assert main(words) == 0
    assert served[0].config == Path("/etc/fortanix/k8s-sdkms-plugin.json")


def test_words_come_from_the_command_line(
    served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["k8s-sdkms-plugin", "-config", "/f", "--strict"])
    assert main() == 0
    assert (served[0].config, served[0].strict) == (Path("/f"), True)


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["serve", "dance"],
        ["-config"],
        ["-conf", "/f"],
        ["call", "dance", "--socket", "/s"],
        ["call", "status"],
        ["call", "status", "--socket", "/s", "--timeout-s", "nan"],
        ["call", "status", "--socket", "/s", "--timeout-s", "0"],
        ["call", "status", "--socket", "/s", "--timeout-s", "1e300"],
        ["check", "--jso"],
    ],
)
def test_wrong_command_line_exits_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: k8s-sdkms-plugin" in capsys.readouterr().err


def test_help_names_every_command_and_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("serve", "check", "call", "demo", "schema", "version", "emulator"):
        assert name in text
    assert "conformance" in text
    assert "Exit codes" in text


def test_version_is_that_of_the_distribution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["version"]) == 0
    version = metadata.version("k8s-sdkms-plugin")
    assert capsys.readouterr().out == f"k8s-sdkms-plugin {version}\n"


# A config that is wrong.


def test_serve_reports_every_finding_and_starts_nothing(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    content = BASE | {
        "socket_file": str(socket),
        "api_key": f"{SECRET} ",
        "log_level": "loud",
        "api_kei": SECRET,
    }
    done = run("-config", written(tmp_path, content))
    assert done.returncode == 2
    assert done.stdout == ""
    *findings, last = done.stderr.splitlines()
    fields = {line.split(": ")[1] for line in findings if line.startswith("error: ")}
    assert fields == {"api_key", "log_level", "api_kei"}
    assert last == "k8s-sdkms-plugin: not started"
    assert SECRET not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_serve_refuses_unknown_fields_when_strict(tmp_path: Path) -> None:
    path = written(tmp_path, BASE | {"remark": "x"})
    done = run("serve", "--strict", "--config", path)
    assert done.returncode == 2
    assert "error: remark: is not a setting" in done.stderr


def test_path_in_another_encoding_is_shown_escaped(tmp_path: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin"}
    done = run("check", "--config", f"{tmp_path}/\u00e9", env=environment)
    assert done.returncode == 2
    assert "\\xe9 can't be read" in done.stdout


# Without the extra.


@pytest.mark.parametrize("words", [["demo", "--once"], ["emulator", "serve"]])
@pytest.mark.parametrize("name", ["uvicorn", "httptools"])
def test_command_without_its_extra_names_it_and_exits_3(
    words: list[str], name: str
) -> None:
    script = (
        f"import sys; sys.modules[{name!r}] = None; "
        f"from k8s_sdkms_plugin.cli import main; sys.exit(main({words!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert EXTRA in line


def test_conformance_without_its_extra_names_it_and_exits_3() -> None:
    script = (
        "import sys; sys.modules['h2'] = None; "
        "from k8s_sdkms_plugin.cli import main; sys.exit(main(['conformance']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "k8s-sdkms-plugin[conformance]" in done.stderr


def test_conformance_has_a_command_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["conformance", "--help"])
    assert ended.value.code == 0
    assert "--rotate" in capsys.readouterr().out


def test_emulator_has_a_command_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["emulator", "--help"])
    assert ended.value.code == 0
    assert "ctl" in capsys.readouterr().out

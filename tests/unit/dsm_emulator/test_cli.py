import json
import os
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsm_emulator.cli import main


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    command = (sys.executable, "-m", "dsm_emulator", "serve", "--dir", str(folder))
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulator") / "state"


@pytest.fixture(scope="module")
def emulator(folder: Path) -> Iterator[dict[str, Any]]:
    with serving(folder, "--key-name", "kek") as (_, described):
        yield described


@pytest.fixture
def ctl(
    folder: Path, emulator: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    def ctl(*command: str, status: int = 0) -> Any:
        assert main(["ctl", "--dir", str(folder), *command]) == status
        captured = capsys.readouterr()
        return json.loads(captured.out) if status == 0 else captured.err

    return ctl


def call(
    folder: Path, method: str, path: str, api_key_file: str = "api-key", **more: Any
) -> httpx.Response:
    described = json.loads((folder / "emulator.json").read_text())
    return httpx.request(
        method,
        described["url"] + path,
        verify=ssl.create_default_context(cafile=described["ca_file"]),
        headers={"Authorization": f"Basic {(folder / api_key_file).read_text()}"},
        trust_env=False,
        **more,
    )


def test_folder_is_private_and_says_where_the_emulator_is(
    folder: Path, emulator: dict[str, Any]
) -> None:
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.pop("ca.pem") & 0o222 == 0o200
    assert modes == {
        "api-key": 0o600,
        "admin-api-key": 0o600,
        "control-token": 0o600,
        "emulator.json": 0o600,
    }
    assert json.loads((folder / "emulator.json").read_text()) == emulator
    assert emulator["key_name"] == "kek"


def test_description_and_arguments_hold_no_secret(
    folder: Path, emulator: dict[str, Any]
) -> None:
    arguments = Path(f"/proc/{emulator['pid']}/cmdline").read_text()
    for name in ("api-key", "admin-api-key", "control-token"):
        secret = (folder / name).read_text()
        assert secret not in json.dumps(emulator)
        assert secret not in arguments


def test_both_api_keys_log_in(folder: Path, emulator: dict[str, Any]) -> None:
    for name, app in (("api-key", "app_id"), ("admin-api-key", "admin_app_id")):
        opened = call(folder, "POST", "/sys/v1/session/auth", name).json()
        assert opened["entity_id"] == emulator[app]


def test_ctl_rekeys_and_disables_by_name_and_kid(ctl: Callable[..., Any]) -> None:
    old = ctl("rekey")["links"]["replaced"]
    new = ctl("rekey", "--deactivate")
    assert ctl("disable")["kid"] == new["kid"]
    assert ctl("enable", "--name", "kek")["enabled"] is True
    assert ctl("compromise", "--kid", old)["state"] == "Compromised"
    states = {key["kid"]: key["state"] for key in ctl("keys")}
    assert sorted(states.values()) == ["Active", "Compromised", "Deactivated"]


def test_ctl_arms_and_clears_faults(ctl: Callable[..., Any], folder: Path) -> None:
    ctl("fault", "status", "--status", "503", "--path", "/sys/v1/health")
    ctl("fault", "set-field", "--field", "version", "--value", '{"a": 1}')
    assert call(folder, "GET", "/sys/v1/health").status_code == 503
    assert call(folder, "GET", "/sys/v1/version").json()["version"] == {"a": 1}
    assert len(ctl("faults")) == 2
    ctl("clear-faults")
    assert call(folder, "GET", "/sys/v1/health").status_code == 204


def test_ctl_shows_journal_and_counters(
    ctl: Callable[..., Any], folder: Path, emulator: dict[str, Any]
) -> None:
    call(folder, "GET", "/sys/v1/version")
    assert ctl("journal")[-1]["path"] == "/sys/v1/version"
    assert ctl("counters")["app"][emulator["app_id"]] >= 1


def test_ctl_sets_latency_and_kills_sessions(
    ctl: Callable[..., Any], folder: Path
) -> None:
    assert ctl("latency", "1.5") == {"latency_ms": 1.5}
    assert ctl("latency", "0") == {"latency_ms": 0.0}
    call(folder, "POST", "/sys/v1/session/auth")
    assert ctl("kill-sessions")["killed"] >= 1


@pytest.mark.parametrize(
    ("option", "name"), [([], "api-key"), (["--admin"], "admin-api-key")]
)
def test_ctl_puts_a_reset_secret_into_its_file(
    ctl: Callable[..., Any], folder: Path, option: list[str], name: str
) -> None:
    file = folder / name
    before = file.read_text()
    shown = ctl("reset-secret", *option)
    assert shown["api_key_file"] == str(file)
    assert file.read_text() != before
    assert file.read_text() not in json.dumps(shown)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert call(folder, "POST", "/sys/v1/session/auth", name).is_success


def test_ctl_tells_a_refusal(ctl: Callable[..., Any]) -> None:
    assert ctl("enable", "--name", "none", status=1) == (
        "emulator: 404: sobject does not exist\n"
    )


def test_ctl_without_an_emulator_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ctl", "--dir", str(tmp_path), "keys"]) == 1
    assert "no emulator is running" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_0_and_in_silence(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as (process, described):
        httpx.get(
            described["url"] + "/sys/v1/version",
            verify=ssl.create_default_context(cafile=described["ca_file"]),
            trust_env=False,
        )
        os.kill(described["pid"], number)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0
    assert not (tmp_path / "emulator.json").exists()


def test_dead_emulator_is_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as (process, _):
        process.kill()
        process.wait(timeout=20)
    assert main(["ctl", "--dir", str(tmp_path), "keys"]) == 1
    assert "no answer from https://127.0.0.1" in capsys.readouterr().err


def test_plain_http_and_a_configuration_for_the_go_plugin(tmp_path: Path) -> None:
    config = tmp_path / "plugin.json"
    options = ("--no-tls", "--plugin-config", str(config), "--socket", "/run/kms.sock")
    with serving(tmp_path, *options, "--latency-ms", "1") as (_, described):
        assert described["ca_file"] is None
        assert described["url"].startswith("http://127.0.0.1:")
        assert main(["ctl", "--dir", str(tmp_path), "keys"]) == 0
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert json.loads(config.read_text()) == {
            "sdkms_endpoint": described["url"],
            "api_key": (tmp_path / "api-key").read_text(),
            "key_name": "Kubernetes Secret Encryption Key",
            "socket_file": "/run/kms.sock",
        }


def test_taken_port_is_one_line(
    emulator: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = emulator["url"].rpartition(":")[2]
    assert main(["serve", "--dir", str(tmp_path), "--port", port]) == 1
    assert "in use" in capsys.readouterr().err


def test_folder_that_is_open_to_others_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    assert main(["serve", "--dir", str(tmp_path)]) == 1
    assert "chmod 0700" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["serve", "--dir", "x", "--socket", "/run/kms.sock"],
        ["ctl", "--dir", "x"],
        ["ctl", "--dir", "x", "enable", "--kid", "a", "--name", "b"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_says_that_the_state_is_not_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "in memory alone" in capsys.readouterr().out


def test_help_and_ctl_do_without_the_extra() -> None:
    script = (
        "import sys, dsm_emulator.cli, dsm_emulator.ctl\n"
        "assert not {'uvicorn', 'trustme', 'starlette'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

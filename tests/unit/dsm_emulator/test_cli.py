import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsm_emulator.cli import main
from dsm_emulator.command_table import COMMANDS
from dsm_emulator.ctl import Call, ControlError, EmulatorProcess


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
    ctl("fault", "unavailable", "--path", "/sys/v1/health")
    ctl("fault", "set-field", "--field", "version", "--value", '{"a": 1}')
    assert call(folder, "GET", "/sys/v1/health").status_code == 503
    assert call(folder, "GET", "/sys/v1/version").json()["version"] == {"a": 1}
    assert len(ctl("faults")) == 2
    ctl("clear-faults")
    assert call(folder, "GET", "/sys/v1/health").status_code == 204


def test_ctl_moves_the_clock(ctl: Callable[..., Any]) -> None:
    before_s = ctl("clock")["seconds"]
    assert ctl("clock", "+3h")["seconds"] >= before_s + 10_800
    assert ctl("clock", "3h", "--back")["seconds"] < before_s + 10_000


def test_ctl_sets_switches_by_json_or_text(ctl: Callable[..., Any]) -> None:
    assert ctl("switch", "key-undo-window", "60") == {"key-undo-window": 60.0}
    assert ctl("switch", "key-undo-window", "null") == {"key-undo-window": None}
    assert ctl("switch", "error-form", "json") == {"error-form": "json"}
    assert ctl("switch", "error-form", "text") == {"error-form": "text"}


def test_ctl_withdraws_and_grants_by_name_of_the_app(ctl: Callable[..., Any]) -> None:
    assert ctl("withdraw", "--permissions", "ENCRYPT")["groups"]
    assert ctl("withdraw")["groups"] == {}
    granted = ctl("grant", "--permissions", "ENCRYPT, decrypt")
    assert list(granted["groups"].values()) == [["DECRYPT", "ENCRYPT"]]


def test_ctl_makes_an_app_whose_key_goes_into_a_file(
    ctl: Callable[..., Any], folder: Path
) -> None:
    made = ctl("create-app", "other")
    path = Path(made["api_key_file"])
    assert path.parent == folder
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opened = call(folder, "POST", "/sys/v1/session/auth", path.name).json()
    assert opened["entity_id"] == made["app_id"]


def test_ctl_makes_an_app_for_a_certificate_that_it_wrote(
    ctl: Callable[..., Any], folder: Path, emulator: dict[str, Any]
) -> None:
    files = ctl("client-certificate", "my-node")
    made = ctl("create-app", "node", "--certificate", files["certificate_file"])
    context = ssl.create_default_context(cafile=emulator["ca_file"])
    context.load_cert_chain(files["certificate_file"], files["key_file"])
    assert stat.S_IMODE(Path(files["key_file"]).stat().st_mode) == 0o600
    opened = httpx.post(
        emulator["url"] + "/sys/v1/session/auth", verify=context, trust_env=False
    )
    assert opened.json()["entity_id"] == made["app_id"]


@pytest.mark.parametrize("name", ["../x", "ca", "", ".x", "a/b", "x" * 65])
def test_ctl_writes_certificates_under_harmless_names_alone(
    ctl: Callable[..., Any], name: str
) -> None:
    assert "a name has" in ctl("client-certificate", name, status=1)


def test_ctl_tells_of_a_file_that_is_not_there(ctl: Callable[..., Any]) -> None:
    complaint = ctl("create-app", "x", "--certificate", "/nowhere", status=1)
    assert "No such file" in complaint


def test_ctl_restarts_and_comes_back(ctl: Callable[..., Any], folder: Path) -> None:
    token = call(folder, "POST", "/sys/v1/session/auth").json()["access_token"]
    before = ctl("status")["starts"]
    assert ctl("restart") == {"starts": before + 1, "lost_sessions": 0}
    bearer = {"headers": {"Authorization": f"Bearer {token}"}}
    assert refresh(folder, **bearer) == 204
    assert ctl("restart", "--lose-sessions")["lost_sessions"] >= 1
    assert refresh(folder, **bearer) == 401


def refresh(folder: Path, **more: Any) -> int:
    described = json.loads((folder / "emulator.json").read_text())
    return httpx.post(
        described["url"] + "/sys/v1/session/refresh",
        verify=ssl.create_default_context(cafile=described["ca_file"]),
        trust_env=False,
        **more,
    ).status_code


def test_ctl_says_when_the_emulator_does_not_come_back(
    folder: Path, emulator: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsm_emulator.ctl._TIMEOUT_S", 0.05)
    process = EmulatorProcess(folder)
    answers = {"restart": {"starts": 7}, "status": {"starts": 7}}
    monkeypatch.setattr(process, "ask", lambda call: answers[call.path])
    with pytest.raises(ControlError, match="did not come back"):
        process.restart(Call("POST", "restart"))


def test_ctl_without_persistence_has_nothing_to_save(ctl: Callable[..., Any]) -> None:
    assert "--persist" in ctl("save", status=1)


def test_ctl_kills_an_address_that_is_listened_on_alone(
    ctl: Callable[..., Any],
) -> None:
    assert "doesn't listen" in ctl("kill-address", "127.0.0.2", status=1)
    assert "doesn't listen" in ctl("revive-address", "127.0.0.2", status=1)


def test_ctl_kills_and_revives_the_second_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(described: dict[str, Any]) -> bool:
        port = described["url"].rpartition(":")[2]
        context = ssl.create_default_context(cafile=described["ca_file"])
        url = f"https://127.0.0.2:{port}/sys/v1/health"
        try:
            httpx.get(url, verify=context, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    with serving(tmp_path, "--also", "127.0.0.2") as (_, described):
        assert answers(described)
        assert main(["ctl", "--dir", str(tmp_path), "kill-address", "127.0.0.2"]) == 0
        wait_until(lambda: not answers(described))
        assert main(["ctl", "--dir", str(tmp_path), "revive-address", "127.0.0.2"]) == 0
        wait_until(lambda: answers(described))
    capsys.readouterr()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition that another process brings about."""
    ends_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


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
    ("option", "name"), [([], "api-key"), (["--app", "admin"], "admin-api-key")]
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


def test_state_outlives_the_process(tmp_path: Path) -> None:
    with serving(tmp_path, "--persist") as (process, first):
        ca = (tmp_path / "ca.pem").read_bytes()
        api_key = (tmp_path / "api-key").read_text()
        assert main(["ctl", "--dir", str(tmp_path), "rekey"]) == 0
        token = call(tmp_path, "POST", "/sys/v1/session/auth").json()["access_token"]
        process.terminate()
        assert process.wait(timeout=20) == 0
    bearer = {"headers": {"Authorization": f"Bearer {token}"}}
    with serving(tmp_path, "--persist") as (_, second):
        assert (tmp_path / "ca.pem").read_bytes() == ca
        assert (tmp_path / "api-key").read_text() == api_key
        assert refresh(tmp_path, **bearer) == 204
        assert second["app_id"] == first["app_id"]
        assert second["kid"] != first["kid"]
    with serving(tmp_path, "--persist", "--lose-sessions") as (_, third):
        assert refresh(tmp_path, **bearer) == 401
        assert third["kid"] == second["kid"]
    with serving(tmp_path) as (_, fourth):
        assert fourth["kid"] != second["kid"]


def test_change_outlives_a_crash(tmp_path: Path) -> None:
    with serving(tmp_path, "--persist") as (process, first):
        assert main(["ctl", "--dir", str(tmp_path), "rekey"]) == 0
        process.kill()
        process.wait(timeout=20)
    with serving(tmp_path, "--persist") as (_, second):
        assert second["kid"] != first["kid"]
        assert main(["ctl", "--dir", str(tmp_path), "save"]) == 0
    for name in ("state.json", "ca-key.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["state.json", "ca-key.pem"])
def test_damaged_folder_is_refused_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with serving(tmp_path, "--persist"):
        pass
    (tmp_path / name).write_text("damaged")
    assert main(["serve", "--dir", str(tmp_path), "--persist"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("emulator: ")
    assert str(tmp_path / name) in line
    assert (tmp_path / name).read_text() == "damaged"


def test_key_that_is_gone_is_no_obstacle_to_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, "--persist"):
        assert main(["ctl", "--dir", str(tmp_path), "rename", "--to", "other"]) == 0
    with serving(tmp_path, "--persist") as (_, described):
        assert described["kid"] is None
    capsys.readouterr()


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
        ["ctl", "--dir", "x", "rename"],
        ["ctl", "--dir", "x", "latency", "soon"],
        ["serve", "--dir", "x", "--lose-sessions"],
        ["serve", "--dir", "x", "--client-certificates", "maybe"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_says_when_the_state_is_not_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "Without --persist the state lives in memory" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_says_what_each_command_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["ctl", "--dir", "x", name, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[name].help[1:] in shown
    for parameter in COMMANDS[name].parameters:
        assert parameter.help in shown


def test_help_and_ctl_do_without_the_extra() -> None:
    script = (
        "import sys, dsm_emulator.cli, dsm_emulator.ctl\n"
        "assert not {'uvicorn', 'trustme', 'starlette'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""`check`: what it finds, what it says of it, and that it leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.daemon.support import (
    DECRYPT,
    ENCRYPT,
    INFO,
    KEY_NAME,
    LOGIN,
    LOGOUT,
    run,
)

from dsm_emulator import Fault, FaultKind
from k8s_sdkms_plugin import hardening
from k8s_sdkms_plugin.cli import main


if TYPE_CHECKING:
    import os
    from pathlib import Path

    from tests.contract.daemon.support import Lab


@pytest.fixture(autouse=True)
def _this_process_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in this process without hardening the process of the tests."""
    monkeypatch.setattr(hardening, "harden_process", lambda: None)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


class Found:
    """What `check --json` said."""

    def __init__(
        self, path: os.PathLike[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.code = main(["check", "--json", "--config", str(path)])
        self.text = capsys.readouterr().out
        self.report: dict[str, Any] = json.loads(self.text)
        self.items: list[dict[str, str]] = self.report["items"]

    def error(self) -> dict[str, str]:
        """Return the only error, which must name a remedy."""
        (error,) = (item for item in self.items if item["level"] == "error")
        assert error["found"]
        assert error["remedy"]
        return error

    def levels(self) -> dict[str, str]:
        """Return the level of each thing that was looked at."""
        return {item["about"]: item["level"] for item in self.items}


def test_good_config_passes_and_the_session_is_ended(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Found(lab.config(), capsys)
    assert found.code == 0
    assert set(found.report) == {"exit", "items"}
    assert found.report["exit"] == 0
    assert all(set(i) == {"level", "about", "found", "remedy"} for i in found.items)
    assert found.levels() == dict.fromkeys(
        ("socket_file", "dsm", "key", "key_id", "seed"), "ok"
    )
    kid = lab.demo.key.kid
    assert any(f"{kid} is AES-256, active" in item["found"] for item in found.items)
    assert any(f"sdkms.v1:{kid}" in item["found"] for item in found.items)
    counts = [lab.dsm.journal.count(path) for path in (LOGIN, INFO, ENCRYPT, DECRYPT)]
    assert counts == [1, 1, 1, 1]
    assert lab.dsm.journal.count(LOGOUT) == 1
    assert len(lab.dsm.sessions) == 0
    assert not lab.socket.exists()
    assert lab.demo.api_key not in found.text


def test_command_prints_lines_for_people(lab: Lab) -> None:
    done = run("check", "-config", lab.config(write_format=None))
    assert done.returncode == 0
    assert done.stderr == b""
    warning, *rest = done.stdout.decode().splitlines()
    assert warning.startswith("warning write_format: is absent")
    assert all(line.startswith("ok      ") for line in rest)
    key_id = hashlib.sha256((lab.server.url + KEY_NAME).encode()).hexdigest()
    assert f"ok      key_id: Status would answer {key_id}" in rest


def test_wrong_config_exits_2_and_asks_nobody(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Found(lab.config(log_level="loud", coast_for="9d", remark="x"), capsys)
    assert found.code == found.report["exit"] == 2
    errors = [item for item in found.items if item["level"] == "error"]
    assert {item["about"] for item in errors} == {"log_level", "coast_for"}
    assert all(item["remedy"] for item in found.items)
    assert found.levels()["remark"] == "warning"
    assert lab.dsm.journal.entries == []


def test_absent_config_exits_2(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    found = Found(lab.folder / "absent.json", capsys)
    assert found.code == 2
    assert found.error()["about"] == "file"


def test_refused_api_key_is_an_error_of_dsm(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lab.config()
    lab.demo.app.enabled = False
    found = Found(path, capsys)
    assert found.code == 1
    assert found.error()["about"] == "dsm"
    assert found.error()["found"].startswith("CREDENTIAL-REFUSED: ")
    assert lab.dsm.journal.failed_logins[lab.demo.app.app_id] == 1
    assert lab.demo.api_key not in found.text


@pytest.mark.parametrize("content", [None, "no certificate", ""])
def test_ca_file_that_is_of_no_use_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = lab.folder / "ca.pem"
    if content is not None:
        path.write_text(content)
    found = Found(lab.config(ca_file=str(path)), capsys)
    assert found.code == 1
    assert "ca_file" in found.error()["remedy"]


def test_dsm_under_another_authority_is_not_trusted(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    found = Found(lab.config(ca_file=None), capsys)
    assert found.code == 1
    assert found.error()["found"].startswith("DSM-UNTRUSTED: ")
    assert lab.dsm.journal.entries == []


@pytest.mark.parametrize(
    ("code", "about"),
    [
        ("KEY-DISABLED", "key"),
        ("KEY-DEACTIVATED", "key"),
        ("KEY-NOT-FOUND", "dsm"),
        ("DSM-ANSWER-REFUSED", "seed"),
        ("PERMISSION-REFUSED", "seed"),
    ],
)
def test_key_that_can_not_be_used_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str], code: str, about: str
) -> None:
    name = KEY_NAME
    match code:
        case "KEY-DISABLED":
            lab.dsm.disable(lab.demo.key)
        case "KEY-DEACTIVATED":
            lab.dsm.deactivate(lab.demo.key)
        case "KEY-NOT-FOUND":
            name = "no such key"
        case "DSM-ANSWER-REFUSED":
            lab.dsm.faults.add(Fault(FaultKind.WRONG_KID, path=ENCRYPT))
        case _:
            lab.dsm.faults.add(Fault(FaultKind.STATUS, path=DECRYPT, status=403))
    found = Found(lab.config(key_name=name), capsys)
    assert found.code == found.report["exit"] == 1
    assert found.error()["about"] == about
    assert found.error()["found"].startswith(f"{code}: ")
    assert lab.dsm.journal.count(LOGOUT) >= 1
    assert len(lab.dsm.sessions) == 0


def test_socket_that_can_not_be_served_is_an_error_beside_what_dsm_says(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.socket.write_text("precious")
    found = Found(lab.config(), capsys)
    assert found.code == 1
    assert found.error()["about"] == "socket_file"
    assert found.levels()["seed"] == "ok"
    assert lab.socket.read_text() == "precious"


@pytest.mark.parametrize("length", [20, 200])
def test_socket_in_an_absent_or_too_long_path_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    found = Found(lab.config(socket_file=f"/absent/{'s' * length}"), capsys)
    assert found.code == 1
    assert all(i["remedy"] for i in found.items if i["level"] == "error")


def test_unknown_group_is_an_error_beside_what_dsm_says(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Found(lab.config(socket_group="no-such-group-here"), capsys)
    assert found.code == 1
    assert found.error()["about"] == "socket_group"
    assert found.levels()["seed"] == "ok"


def test_group_is_found_by_its_name(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Found(lab.config(socket_group="root"), capsys).code == 0


async def test_check_beside_a_running_daemon_passes(shared: Lab) -> None:
    done = run("check", "--config", shared.daemon.config)
    assert done.returncode == 0, done.stdout
    assert (await shared.daemon.status()).healthz == "ok"


def test_state_folder_is_looked_at(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    well = Found(lab.config(state_dir=str(tmp_path)), capsys)
    assert (well.code, well.levels()["state_dir"]) == (0, "ok")
    missing = Found(lab.config(state_dir=str(tmp_path / "missing")), capsys)
    assert missing.code == 1
    assert missing.error()["about"] == "state_dir"


def test_rotation_that_the_format_hides_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    config = lab.config(write_format="go-plugin")
    assert Found(config, capsys).code == 0
    lab.dsm.rekey(KEY_NAME)
    found = Found(config, capsys)
    assert found.code == 1
    assert found.error()["found"].startswith("ROTATION-HIDDEN: ")

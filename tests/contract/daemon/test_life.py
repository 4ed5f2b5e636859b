"""From exec to exit: socket, signals, DSM that comes late, who may have the path."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest
from tests.contract.daemon.support import (
    DECRYPT,
    ENCRYPT,
    INFO,
    LOGIN,
    LOGOUT,
    WITHIN_S,
    Lab,
    eventually,
    one_line_problem,
)

from adapters_grpc.client import CallFailed
from dsm_emulator import Fault, FaultKind


if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.daemon.support import Daemon


def seconds_between(daemon: Daemon, first: str, second: str) -> float:
    """Return the time between two events, by the daemon's own clock."""
    began, ended = (
        dt.datetime.fromisoformat(daemon.lines(event=name)[0]["time"])
        for name in (first, second)
    )
    return (ended - began).total_seconds()


# DSM comes late.


async def test_socket_is_up_without_dsm_and_heals_when_dsm_comes(lab: Lab) -> None:
    lab.server.stop()
    daemon = lab.start()
    failure = await daemon.status_failure()
    assert failure is not None
    assert failure.code_name == "UNAVAILABLE"
    assert one_line_problem(failure.text) is None
    assert failure.text.startswith("NOT-READY: starting")
    failure = await daemon.await_failure("DSM-UNREACHABLE")
    assert one_line_problem(failure.text) is None
    line = daemon.await_line(event="standing")
    assert (line["state"], line["code"]) == ("starting", "DSM-UNREACHABLE")
    assert line["cause"]
    assert line["remedy"]
    assert line["next_look_s"] > 0
    lab.server.start()
    status = await daemon.await_ok()
    assert status.key_id == f"sdkms.v1:{lab.demo.key.kid}"
    assert len(daemon.lines(event="standing", code="DSM-UNREACHABLE")) == 1


@pytest.mark.parametrize("protection", ["local-kek", "direct"])
async def test_encrypt_that_comes_before_the_key_is_proven_is_answered(
    lab: Lab, protection: str
) -> None:
    lab.dsm.latency_ms = 150.0
    daemon = lab.start(protection=protection)
    async with daemon.client(timeout_s=20.0) as client:
        answer = await client.encrypt(seed := lab.seed())
        assert await client.decrypt(answer.ciphertext, answer.key_id) == seed
    assert answer.key_id == f"sdkms.v1:{lab.demo.key.kid}"


async def test_wrong_api_key_is_said_and_hardly_tried(lab: Lab) -> None:
    good = lab.demo.app.secret
    config = lab.config()
    lab.demo.app.secret = "another"
    daemon = lab.launch(config).await_socket()
    failure = await daemon.await_failure("CREDENTIAL-REFUSED")
    assert failure.code_name == "UNAVAILABLE"
    assert one_line_problem(failure.text) is None
    async with daemon.client() as client:
        for _ in range(5):
            with pytest.raises(CallFailed, match="NOT-READY"):
                await client.encrypt(lab.seed())
            with pytest.raises(CallFailed):
                await client.decrypt(b"x", "sdkms.v1:k")
    assert lab.dsm.journal.failed_logins[lab.demo.app.app_id] == 1
    lab.demo.app.secret = good
    daemon.hang_up()
    await daemon.await_ok()
    assert lab.dsm.journal.failed_logins[lab.demo.app.app_id] == 1


@pytest.mark.parametrize("code", ["KEY-DISABLED", "KEY-DEACTIVATED", "KEY-NOT-FOUND"])
async def test_key_that_can_not_be_used_is_said_at_start(lab: Lab, code: str) -> None:
    name = lab.demo.key.name
    if code == "KEY-DISABLED":
        lab.dsm.disable(lab.demo.key)
    elif code == "KEY-DEACTIVATED":
        lab.dsm.deactivate(lab.demo.key)
    else:
        name = "no such key"
    daemon = lab.start(key_name=name)
    failure = await daemon.await_failure(code)
    assert failure.code_name == "UNAVAILABLE"
    assert one_line_problem(failure.text) is None
    line = daemon.await_line(event="standing", code=code)
    assert line["remedy"] in failure.text
    assert lab.dsm.journal.count(ENCRYPT) == 0


async def test_disabled_key_is_taken_again_once_it_is_enabled(lab: Lab) -> None:
    lab.dsm.disable(lab.demo.key)
    daemon = lab.start()
    await daemon.await_failure("KEY-DISABLED")
    lab.dsm.enable(lab.demo.key)
    daemon.hang_up()
    await daemon.await_ok()


# Signals.


async def test_sigterm_ends_the_session_and_removes_the_socket(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 15.0  # 5 s by design; a hang would be 30
    assert not lab.socket.exists()
    assert lab.dsm.journal.count(LOGIN, status=200) == 1
    assert lab.dsm.journal.count(LOGOUT) == 1
    assert len(lab.dsm.sessions) == 0
    assert [line["event"] for line in daemon.lines()][-2:] == ["stopping", "stopped"]
    left = {path.name for path in lab.folder.iterdir()}
    assert left == {"config.json", "config.log", ".kms.sock.lock"}


async def test_sigint_ends_it_as_well(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(WITHIN_S) == 0
    assert not lab.socket.exists()


async def test_sighup_as_soon_as_the_socket_is_there_ends_nothing(lab: Lab) -> None:
    daemon = lab.launch(lab.config())
    while not lab.socket.exists():  # noqa: ASYNC110 - busy, to be as early as can be
        await asyncio.sleep(0)
    daemon.hang_up()
    await daemon.await_ok()
    assert daemon.process.poll() is None


async def test_sigterm_lets_a_decrypt_in_flight_complete(lab: Lab) -> None:
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client(WITHIN_S) as client:
        sealed = await client.encrypt(seed)
        hang = Fault(FaultKind.HANG, path=DECRYPT)
        lab.dsm.faults.add(hang)
        call = asyncio.create_task(client.decrypt(sealed.ciphertext, sealed.key_id))
        assert await asyncio.to_thread(lab.dsm.faults.wait_for_hanging, 1)
        daemon.process.terminate()
        await asyncio.to_thread(daemon.await_line, event="stopping")
        assert not call.done()
        lab.dsm.faults.remove(hang)
        assert await call == seed
    assert daemon.process.wait(WITHIN_S) == 0
    assert lab.dsm.journal.count(LOGOUT) == 1


async def test_dsm_that_hangs_does_not_delay_the_end(lab: Lab) -> None:
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    async with daemon.client(WITHIN_S) as client:
        sealed = await client.encrypt(lab.seed())
        lab.dsm.faults.add(Fault(FaultKind.HANG))
        call = asyncio.create_task(client.decrypt(sealed.ciphertext, sealed.key_id))
        assert await asyncio.to_thread(lab.dsm.faults.wait_for_hanging, 1)
        assert await asyncio.to_thread(daemon.stop) == 0
        with pytest.raises(CallFailed):
            await call
    # 5 s by design; twice that tells a bounded end from a hang on any machine.
    assert seconds_between(daemon, "stopping", "stopped") < 10


async def test_killed_daemon_starts_again_on_its_stale_socket(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed)
    daemon.kill()
    assert lab.socket.is_socket()
    daemon = lab.launch(lab.config("again.json"))
    status = await daemon.await_ok()
    assert status.key_id == sealed.key_id
    async with daemon.client() as client:
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed


# Who may have the path.


async def test_second_daemon_on_the_path_is_refused_and_the_first_goes_on(
    lab: Lab,
) -> None:
    first = lab.start()
    key_id = (await first.await_ok()).key_id
    logins = lab.dsm.journal.count(LOGIN)
    second = lab.launch(lab.config("second.json"))
    assert second.process.wait(WITHIN_S) == 1
    (line,) = second.lines()
    assert (line["level"], line["event"]) == ("error", "not started")
    assert "another instance" in line["cause"]
    assert lab.dsm.journal.count(LOGIN) == logins
    assert (await first.status()).key_id == key_id


def test_live_socket_of_a_foreign_server_is_refused(lab: Lab) -> None:
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(lab.socket))
        foreign.listen()
        inode = lab.socket.lstat().st_ino
        daemon = lab.launch(lab.config())
        assert daemon.process.wait(WITHIN_S) == 1
        assert "another server answers" in daemon.lines()[0]["cause"]
        assert lab.socket.lstat().st_ino == inode


def test_file_at_the_path_is_refused_and_untouched(lab: Lab) -> None:
    lab.socket.write_text("precious")
    daemon = lab.launch(lab.config())
    assert daemon.process.wait(WITHIN_S) == 1
    assert "no socket" in daemon.lines()[0]["cause"]
    assert lab.socket.read_text() == "precious"
    assert lab.dsm.journal.entries == []


@pytest.mark.parametrize("group", ["no-such-group-here", "9" * 5000])
def test_unknown_group_is_refused_before_anything_is_made(lab: Lab, group: str) -> None:
    daemon = lab.launch(lab.config(socket_group=group))
    assert daemon.process.wait(WITHIN_S) == 1
    assert "socket_group" in daemon.lines()[0]["cause"]
    assert not lab.socket.exists()


def test_wrong_config_starts_nothing(lab: Lab) -> None:
    daemon = lab.launch(lab.config(log_level="loud", socket_mode="0"))
    assert daemon.process.wait(WITHIN_S) == 2
    assert daemon.text().count("error: ") == 2
    assert daemon.text().endswith("k8s-sdkms-plugin: not started\n")
    assert not lab.socket.exists()
    assert lab.dsm.journal.entries == []
    daemon.log.write_text("")


async def test_socket_has_its_mode_and_group(lab: Lab) -> None:
    daemon = lab.start(socket_mode="0660", socket_group=str(os.getgid()))
    await daemon.await_ok()
    status = lab.socket.stat()
    assert status.st_mode & 0o777 == 0o660
    assert status.st_gid == os.getgid()


# systemd.


def test_systemd_hears_of_start_standing_life_and_end(lab: Lab, tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(WITHIN_S)
        # A third of it lies between two signs of life.
        watchdog = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000"}
        daemon = lab.start(environ=watchdog)
        heard = [systemd.recv(1024).decode()]
        while sum(word == "WATCHDOG=1" for word in heard) < 3 or not any(
            word.startswith("STATUS=ready") for word in heard
        ):
            heard.append(systemd.recv(1024).decode())
        daemon.process.terminate()
        eventually(lambda: systemd.recv(1024) == b"STOPPING=1", "it says it stops")
    assert heard[0] == "READY=1"
    assert f"STATUS=ready sdkms.v1:{lab.demo.key.kid}" in heard
    assert daemon.process.wait(WITHIN_S) == 0


async def test_looks_go_on_and_are_few(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    looks = lab.dsm.journal.count(INFO)
    daemon.hang_up()
    eventually(lambda: lab.dsm.journal.count(INFO) > looks, "a look after SIGHUP")
    for _ in range(50):
        await daemon.status()
    assert lab.dsm.journal.count(INFO) <= looks + 3
    assert lab.dsm.journal.count(LOGIN) == 1

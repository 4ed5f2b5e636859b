from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from k8s_sdkms_plugin.daemon import DaemonTelemetry
from k8s_sdkms_plugin.sd_notify import Notifier
from kms_core.events import StandingReported, Unexpected
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "n") if request.param == "path" else f"@{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(5.0)
        yield listener, name


def test_every_word_arrives(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.status("ready sdkms.v1:k")
    notifier.alive()
    notifier.stopping()
    words = [listener.recv(1024) for _ in range(4)]
    assert words == [
        b"READY=1",
        b"STATUS=ready sdkms.v1:k",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_nothing_happens_without_systemd() -> None:
    notifier = Notifier({})
    notifier.ready()
    assert notifier.watchdog_s is None


def test_systemd_that_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    Notifier({"NOTIFY_SOCKET": "/" + "x" * 200}).ready()


def test_full_socket_disturbs_nobody(systemd: tuple[socket.socket, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd[1]})
    for _ in range(10_000):
        notifier.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_watchdog_is_served_if_it_is_meant_for_us(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment).watchdog_s == seconds


class Ignored(Telemetry):
    def emit(self, event: Event) -> None:
        pass


@pytest.mark.parametrize(
    ("state", "key_id", "code", "line"),
    [
        ("ready", "sdkms.v1:k", "", b"STATUS=ready sdkms.v1:k"),
        ("denied", "sdkms.v1:k", "KEY-DISABLED", b"STATUS=denied KEY-DISABLED"),
        ("starting", "", "", b"STATUS=starting"),
    ],
)
def test_standing_is_the_status_line(
    systemd: tuple[socket.socket, str], state: str, key_id: str, code: str, line: bytes
) -> None:
    listener, name = systemd
    telemetry = DaemonTelemetry(Ignored(), Notifier({"NOTIFY_SOCKET": name}))
    telemetry.emit(Unexpected(where="x", what="y"))
    telemetry.emit(
        StandingReported(
            state=state,
            key_id=key_id,
            code=code,
            cause="",
            remedy="",
            meaning="",
            next_look_s=None,
            status_fails_at=None,
        )
    )
    assert listener.recv(1024) == line

"""Tells systemd how the daemon is (sd_notify(3)); silent where there is no systemd."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Sends notifications to the socket that ``NOTIFY_SOCKET`` names.

    Args:
        environment: The process' environment variables.

    Attributes:
        watchdog_s: Seconds within which systemd wants a sign of life; None if it
            wants none, or wants it of another process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An @ stands for the NUL byte that begins an abstract socket's name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environment)

    def ready(self) -> None:
        """Say that the socket is bound."""
        self._send("READY=1")

    def status(self, line: str) -> None:
        """Set the one line that ``systemctl status`` shows."""
        self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Give the sign of life."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, flags) as channel,
        ):
            channel.sendto(text.encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        micros = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return micros / 1e6 if micros > 0 else None

"""What the kit is pointed at: a socket, and the hooks that its owner gives."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, unquote, urlsplit

from attrs import field, frozen


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


MAX_NAME_BYTES: Final = 107
"""Longest path of a unix socket, but for the NUL at its end: unix(7)."""


class Hook(enum.Enum):
    """What a check may need besides the socket; the value is the flag that gives it."""

    ROTATE = "--rotate"
    BACK = "--back"
    STOP = "--stop"
    START = "--start"
    KILL = "--kill"
    BREAK = "--break"
    HEAL = "--heal"
    KMS_CALLS = "--kms-calls"
    PEER = "--peer"
    PID = "--pid"
    CORPUS = "--corpus"


class EndpointRefused(ValueError):
    """The endpoint names no unix socket as kube-apiserver writes it."""


@frozen
class Endpoint:
    """A unix socket.

    Attributes:
        name: A path, or ``@name`` for an abstract socket.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``unix:///path``, ``unix:///@name`` or ``/path`` (contract 2.4).

        Raises:
            EndpointRefused: It is none of these.
        """
        name = text if text.startswith("/") else cls._name_in(text)
        if "\0" in name or len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise EndpointRefused(
                f"{text!r} is no socket's path: at most {MAX_NAME_BYTES} bytes, no NUL"
            )
        return cls(name)

    @staticmethod
    def _name_in(text: str) -> str:
        try:
            url = urlsplit(text)
        except ValueError:
            raise EndpointRefused(f"{text!r} is no URL") from None
        if url.scheme != "unix":
            raise EndpointRefused(f"{text!r} is no endpoint; write unix:///a/path")
        if url.netloc:
            # Go reads the first part as a host and dials the rest, without a word.
            raise EndpointRefused(
                f"{text!r} has two slashes, so that kube-apiserver would dial "
                f"{url.path or 'nothing'!r}; write unix:///{url.netloc}{url.path}"
            )
        path = unquote(url.path, errors="surrogateescape")
        if path.startswith("/@"):
            return path[1:]
        if not path.startswith("/"):
            raise EndpointRefused(f"{text!r} has no absolute path")
        return path

    def is_same(self, other: Endpoint) -> bool:
        """Return whether *other* is this socket, be it by another path."""
        if self.is_abstract or other.is_abstract:
            return self == other
        return os.path.realpath(self.name) == os.path.realpath(other.name)

    @property
    def is_abstract(self) -> bool:
        """Whether it has no file."""
        return self.name.startswith("@")

    @property
    def address(self) -> str:
        """What ``connect(2)`` takes."""
        return "\0" + self.name[1:] if self.is_abstract else self.name

    @property
    def grpc_target(self) -> str:
        """What grpcio takes; it reads a URI."""
        if self.is_abstract:
            return f"unix-abstract:{quote(os.fsencode(self.name[1:]))}"
        return f"unix:{quote(os.fsencode(self.name))}"

    def __str__(self) -> str:
        return f"unix:///{self.name}" if self.is_abstract else f"unix://{self.name}"


@frozen
class Pulled:
    """What pulling a hook gave.

    Attributes:
        exit_code: 0 if it did what it is for.
        output: The end of what it printed.
    """

    exit_code: int
    output: str = ""


class Pull(Protocol):
    """Pulls a hook."""

    async def __call__(self) -> Pulled:
        """Do it, and return when it is done."""


@frozen
class Target:
    """The plugin under test.

    Attributes:
        endpoint: Its socket.
        peer: The socket of another instance with the same remote key, if there is one.
        pulls: What each hook that does something does.
        pid: Tells the plugin's process id, which a restart changes; if it is known.
        corpus: The file of sealed seeds of earlier runs, if there is one.
        rotation_s: Seconds that the plugin may take to report a rotated key.
    """

    endpoint: Endpoint
    peer: Endpoint | None = None
    pulls: Mapping[Hook, Pull] = field(factory=dict)
    pid: Callable[[], int] | None = None
    corpus: Path | None = None
    rotation_s: float = 120.0

    def offers(self, hook: Hook) -> bool:
        """Return whether *hook* was given."""
        values = {Hook.PEER: self.peer, Hook.PID: self.pid, Hook.CORPUS: self.corpus}
        return hook in self.pulls or values.get(hook) is not None

"""The options of a run, declared once for the command line and for pytest."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from kms_conformance.commands import pid_source, shell
from kms_conformance.scale import FULL, QUICK, SOAK_S
from kms_conformance.target import Endpoint, EndpointRefused, Hook, Target


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_conformance.scale import Scale

    Given = Callable[[str], Any]
    """Tells what an option was given, by its flag."""


MAX_SEED: Final = 1_000_000
"""Where a run's own random seeds end."""

COMMANDS: Final = (
    (Hook.ROTATE, "rotates the remote key"),
    (Hook.BACK, "makes the previous remote key the current one again"),
    (Hook.STOP, "stops the plugin with SIGTERM and waits until it has ended"),
    (Hook.START, "starts the plugin; exits with another code than 0 if it refuses"),
    (Hook.KILL, "kills the plugin with SIGKILL"),
    (Hook.BREAK, "makes the remote key service unreachable, or the key unusable"),
    (Hook.HEAL, "mends what --break broke"),
    (Hook.KMS_CALLS, "prints how many calls the remote key service has had"),
)
"""The hooks that are commands, and what each command does."""


@frozen
class Option:
    """One option.

    Attributes:
        flag: How it is written.
        help: What ``--help`` says of it.
        metavar: What its value is called; empty for a switch.
        read: Makes a value of the words, raises ValueError if it can't.
        default: What it is when it was not given.
    """

    flag: str
    help: str
    metavar: str = ""
    read: Callable[[str], Any] = str
    default: Any = None

    @property
    def keywords(self) -> dict[str, Any]:
        """What ``add_argument`` of argparse takes besides the flag."""
        if not self.metavar:
            return {"help": self.help, "action": "store_true"}
        return {
            "help": self.help,
            "metavar": self.metavar,
            "type": self.read,
            "default": self.default,
        }


def ids(text: str) -> tuple[str, ...]:
    """Return the ids and letters of groups in *text*, which commas separate."""
    return tuple(word.strip().upper() for word in text.split(",") if word.strip())


def seconds(text: str) -> float:
    """Return the seconds in *text*, which are more than none.

    Raises:
        ValueError: They are not, or are endless.
    """
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(f"{text!r} is no time to wait")
    return value


SOCKET: Final = Option(
    "--socket", "the plugin's: unix:///run/x.sock, unix:///@name or a path", "SOCKET"
)

SELECTION: Final = (
    Option("--quick", "undisruptive checks, under 30 s in all"),
    Option("--only", "such as T,S01,D04", "IDS", ids, ()),
    Option("--skip", "likewise", "IDS", ids, ()),
    Option("--seed", "repeat the randomness of a run", "N", int),
    Option("--timeout-s", "of a call (3)", "S", seconds, FULL.timeout_s),
    Option("--soak-s", "length of the soak, L09 (120)", "S", seconds),
)
"""What is run, and how much of it."""

REPORTS: Final = (
    Option("--json", "write the report as JSON", "FILE", Path),
    Option("--junit", "write the report as JUnit XML", "FILE", Path),
    Option("--html", "write the report as one HTML page", "FILE", Path),
)
"""Where reports go."""

HOOKS: Final = (
    *(Option(hook.value, what, "CMD") for hook, what in COMMANDS),
    Option(Hook.PEER.value, "another instance, same remote key", "SOCKET"),
    Option(Hook.PID.value, "the plugin's, or a file that has it", "PID|FILE"),
    Option(
        Hook.CORPUS.value,
        "sealed seeds of earlier runs; made if it is not there",
        "FILE",
        Path,
    ),
    Option(
        "--rotation-s",
        "how soon Status must show a rotation (120)",
        "S",
        seconds,
        120.0,
    ),
)
"""What a check may need besides the socket."""


def target(given: Given) -> Target:
    """Return the plugin under test.

    Raises:
        EndpointRefused: A socket is missing or malformed, or the peer is the plugin.
    """
    socket, peer = given(SOCKET.flag), given(Hook.PEER.value)
    if socket is None:
        raise EndpointRefused("--socket says which plugin to check")
    endpoint = Endpoint.parse(socket)
    other = Endpoint.parse(peer) if peer else None
    if other is not None and other.is_same(endpoint):
        raise EndpointRefused("--peer is the plugin's own socket, not another's")
    commands = {hook: given(hook.value) for hook, _ in COMMANDS}
    pid = given(Hook.PID.value)
    return Target(
        endpoint=endpoint,
        peer=other,
        pulls={hook: shell(text) for hook, text in commands.items() if text},
        pid=pid_source(pid) if pid else None,
        corpus=given(Hook.CORPUS.value),
        rotation_s=given("--rotation-s"),
    )


def scale(given: Given) -> Scale:
    """Return how much a run does."""
    chosen = QUICK if given("--quick") else FULL
    chosen = evolve(chosen, timeout_s=given("--timeout-s"))
    soak_s = given("--soak-s")
    return chosen if soak_s is None else evolve(chosen, soak=soak_s / SOAK_S)


def random_seed(given: Given) -> int:
    """Return what repeats the run: as it was given, or a new one."""
    seed: int | None = given("--seed")
    return secrets.randbelow(MAX_SEED) if seed is None else seed

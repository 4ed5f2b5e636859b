"""``status``: how things stand, asked of the socket and, if there is one, the listener.

The socket says what kube-apiserver gets; why, and for how long, only the listener says.
Another program may serve the socket: what it says is shown on one line.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import socket as sockets
import sys
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from adapters_grpc.client import CallFailed, KmsClient
from adapters_grpc.unix_socket import SocketRefused, socket_path
from k8s_sdkms_plugin.config.kinds import Seconds
from k8s_sdkms_plugin.config.loading import load
from k8s_sdkms_plugin.config.model import ListenAddress
from k8s_sdkms_plugin.metrics import key_id_hash
from k8s_sdkms_plugin.scrape import Seen, ask_listener
from kms_core.errors import NotReady, error_classes, one_line
from kms_core.service import HEALTHZ_OK


if TYPE_CHECKING:
    from pathlib import Path


EXIT_OK: Final = 0
EXIT_NOT_OK: Final = 1
EXIT_USAGE: Final = 2

_CODE: Final = re.compile("[A-Z]+(?:-[A-Z]+)+|INTERNAL")
_LABEL_CHARS: Final = 15
# The client's own codes, while it waits for a server; our Status never ends in one.
_SILENCE: Final = ("DEADLINE_EXCEEDED", "CANCELLED", "OK")


class _UsageError(Exception):
    """It is not known whom to ask; the text says why, in one or more lines."""


@frozen(kw_only=True)
class Answered:
    """What the socket says.

    Attributes:
        ok: Whether Status is ok.
        version: What Status answers as version; empty if the call fails.
        key_id: The announced key_id; empty if the call fails.
        key_id_hash: The same, hashed as kube-apiserver's metrics do.
        problem: Why Status is not ok, one line; empty if it is.
        said: Whether that is the server's word, and not silence.
    """

    ok: bool
    version: str = ""
    key_id: str = ""
    key_id_hash: str = ""
    problem: str = ""
    said: bool = False


def status(  # noqa: PLR0913 - the command line's options
    config: Path,
    socket: str | None,
    listen: str | None,
    *,
    timeout_s: float,
    as_json: bool,
    only_alive: bool = False,
) -> int:
    """Print how things stand, and return the exit code.

    Args:
        config: The daemon's config; read only if *socket* is None.
        socket: Path of the socket, with or without ``unix://``.
        listen: Address of the listener; None is what the config says.
        timeout_s: Deadline of each question in seconds.
        as_json: Print one JSON object instead of lines.
        only_alive: Ask the socket alone, and take any answer of its server for well.

    Returns:
        0 if Status is ok, 1 if it is not, 2 if it is not known whom to ask.
    """
    try:
        path, address = _whom_to_ask(config, socket, listen)
    except _UsageError as refusal:
        print(refusal, file=sys.stderr)
        return EXIT_USAGE
    if only_alive:
        return _alive(asyncio.run(_ask_socket(path, timeout_s)))
    answered, seen = asyncio.run(_ask(path, address, timeout_s))
    code = EXIT_OK if answered.ok else EXIT_NOT_OK
    now = dt.datetime.now(dt.UTC)
    if as_json:
        print(json.dumps(_as_json(code, path, address, answered, seen), indent=2))
    else:
        for label, text in _lines(path, address, answered, seen, now):
            print(f"{label:<{_LABEL_CHARS}}{text}")
    return code


def _alive(answered: Answered) -> int:
    """Return 0 if the daemon gave any answer: a restart would heal nothing."""
    if answered.said:
        return EXIT_OK
    print(f"error: {answered.problem}", file=sys.stderr)
    return EXIT_NOT_OK


def _whom_to_ask(
    config: Path, socket: str | None, listen: str | None
) -> tuple[Path, ListenAddress | None]:
    try:
        address = None if listen is None else ListenAddress.parse(listen)
    except ValueError as problem:
        raise _UsageError(f"error: --listen {problem}") from None
    try:
        if socket is not None:
            return socket_path(socket), address
        # Nothing of it is tried: an API key that DSM refuses is as good as any.
        loaded = load(config, os.environ)
        if loaded.config is not None:
            path = socket_path(loaded.config.socket_file)
            return path, address or loaded.config.listen_address
    except SocketRefused as refusal:
        raise _UsageError(f"error: {refusal.text}") from None
    lines = [
        *map(str, loaded.errors),
        "error: name the daemon's socket with --socket, its listener with --listen",
    ]
    raise _UsageError("\n".join(lines))


async def _ask(
    path: Path, address: ListenAddress | None, timeout_s: float
) -> tuple[Answered, Seen | None]:
    answered = await _ask_socket(path, timeout_s)
    if address is None:
        return answered, None
    seen = await ask_listener(address, timeout_s)
    if answered.ok and seen.key_id_hash not in ("", answered.key_id_hash):
        problem = "shows another key_id: that of another daemon, or one just rotated"
        seen = evolve(seen, problem=problem)
    return answered, seen


async def _ask_socket(path: Path, timeout_s: float) -> Answered:
    problem = no_server(path)
    if problem:
        return Answered(ok=False, problem=problem)
    try:
        async with KmsClient(path, timeout_s=timeout_s) as client:
            answer = await client.status()
    except CallFailed as failure:
        said = one_line(f"{failure.code_name}: {failure.text}")
        spoken = failure.code_name not in _SILENCE
        return Answered(ok=False, problem=said, said=spoken)
    ok = answer.healthz == HEALTHZ_OK
    return Answered(
        ok=ok,
        version=one_line(answer.version),
        key_id=one_line(answer.key_id),
        key_id_hash=key_id_hash(answer.key_id) if answer.key_id else "",
        problem="" if ok else one_line(f"healthz is {answer.healthz!r}"),
        said=True,
    )


def no_server(path: Path) -> str:
    """Return why nobody answers at *path*; gRPC would only say that time is up."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            # Somebody listens and takes nobody in (EAGAIN, connect(2)): waited for,
            # and not without end.
            return ""
        except ConnectionRefusedError:
            return f"no daemon serves {path}"
        except OSError as error:
            why = error.strerror or str(error)
            return one_line(f"{path} can't be opened ({why})")
    return ""


def _as_json(
    code: int,
    path: Path,
    address: ListenAddress | None,
    answered: Answered,
    seen: Seen | None,
) -> dict[str, Any]:
    known = Seen() if seen is None else seen
    return {
        "exit": code,
        "ok": answered.ok,
        "problem": answered.problem,
        "version": answered.version,
        "key_id": answered.key_id,
        "key_id_hash": answered.key_id_hash or known.key_id_hash,
        "state": known.state,
        "code": _code(answered, seen),
        "coasting_ends": _iso(known.coasting_ends),
        "last_good_look": _iso(known.last_good_look),
        "local_keks": known.local_keks,
        "what_to_do": _advice(answered, seen),
        "socket": str(path),
        "listener": None if address is None else str(address),
        "listener_problem": known.problem,
    }


def _lines(
    path: Path,
    address: ListenAddress | None,
    answered: Answered,
    seen: Seen | None,
    now: dt.datetime,
) -> list[tuple[str, str]]:
    known = Seen() if seen is None else seen
    ok = f"ok, version {answered.version}"
    lines = [("Status", ok if answered.ok else f"not ok: {answered.problem}")]
    if known.state:
        because = f", {known.code}" if known.code else ""
        lines.append(("state", known.state + because))
    if answered.key_id:
        lines.append(("key_id", answered.key_id))
        lines.append(("key_id hash", answered.key_id_hash))
    elif known.key_id_hash:
        lines.append(("key_id hash", f"{known.key_id_hash}, last announced"))
    if known.coasting_ends is not None:
        left = _duration(known.coasting_ends - now)
        fails = f"{_iso(known.coasting_ends)}, in {left}, if nothing changes"
        lines.append(("Status fails", fails))
    if known.last_good_look is not None:
        lines.append(("last good look", f"{_duration(now - known.last_good_look)} ago"))
    if known.local_keks is not None:
        lines.append(("local KEKs", f"{known.local_keks} in memory"))
    lines.append(("what to do", _advice(answered, seen)))
    lines.append(("socket", str(path)))
    if address is None:
        lines.append(("listener", "none known; the setting listen makes one"))
    else:
        lines.append(("listener", f"{address} {known.problem}".rstrip()))
    return lines


def _advice(answered: Answered, seen: Seen | None) -> str:
    hint = _hints().get(_code(answered, seen))
    if hint is not None:
        return hint
    if answered.ok:
        return "nothing"
    return "see that the daemon runs, read its log, and try check"


def _code(answered: Answered, seen: Seen | None) -> str:
    """Return the code of what is wrong: the listener's, or one that Status names."""
    if seen is not None and seen.code:
        return seen.code
    named = [c for c in _CODE.findall(answered.problem) if c in _hints()]
    # NOT-READY comes first and is never the cause.
    causes = [code for code in named if code != NotReady.code]
    return next(iter(causes or named), "")


def _hints() -> dict[str, str]:
    return {cls.code: cls.hint for cls in error_classes()}


def _iso(at: dt.datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration(span: dt.timedelta) -> str:
    return str(Seconds(max(0.0, span.total_seconds())))

"""Faults by name: each kind, and the common cases with their parameters filled in.

The numbers are those of the reference's section 10.
"""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from dsm_emulator.errors import NO_SUCH_SESSION
from dsm_emulator.fault import Fault
from dsm_emulator.fault_kinds import KINDS, STAGES, FaultKind, Stage


ENCRYPT = "/crypto/v1/encrypt"
DECRYPT = "/crypto/v1/decrypt"


@frozen
class Case:
    """A common case.

    Attributes:
        point: The point of the reference's section 10.
        kind: What it is a case of.
        fields: The parameters; whoever names it may give others.
        help: What happens, for people.
    """

    point: int
    kind: FaultKind
    fields: Mapping[str, Any]
    help: str


def fault_named(name: str, **parameters: Any) -> Fault:
    """Return the fault of that name.

    Args:
        name: A kind, or one of `CASES`.
        parameters: Those of a `Fault`; they win over those of the case.

    Raises:
        ValueError: There is none of that name, or its kind doesn't read one of the
            parameters, or lacks one.
    """
    case = CASES.get(name)
    if case is not None:
        fields: dict[str, Any] = {"kind": case.kind, **case.fields, **parameters}
    elif name in KINDS:
        fields = {"kind": name, **parameters}
    else:
        raise ValueError(f"no fault is called {name[:40]!r}")
    try:
        fault = Fault(**fields)
    except TypeError:
        raise ValueError("an unknown parameter, or one of the wrong type") from None
    unread = fault.unread()
    if unread:
        raise ValueError(f"{name} knows no {unread[0]}")
    return fault


def catalog() -> dict[str, str]:
    """Return what each name does, by name, those of a stage together."""
    shown: dict[str, str] = {}
    for stage in Stage:
        for kind, rule in KINDS.items():
            if rule.stage is stage:
                shown[str(kind)] = f"{rule.help} ({STAGES[stage]})"
    for name, case in CASES.items():
        shown[name] = f"{case.help} (a case of {case.kind})"
    return shown


def _status(point: int, status: int, text: str, **more: Any) -> Case:
    fields = {"status": status, "text": text, **more}
    return Case(point, FaultKind.STATUS, fields, f"{status}, {text!r}")


def _without(field: str) -> Case:
    fields = {"field": field, "path": ENCRYPT}
    return Case(27, FaultKind.DROP_FIELD, fields, f"encrypt answers without {field}")


def _resized(field: str, path: str, size: int) -> Case:
    fields = {"field": field, "path": path, "size": size}
    call = path.rpartition("/")[2]
    text = f"{call} answers with {size} bytes of {field}, or `size`"
    return Case(27, FaultKind.RESIZE_FIELD, fields, text)


CASES: dict[str, Case] = {
    "long-tail": Case(
        22,
        FaultKind.LATENCY,
        {"ms": 5.0, "jitter_ms": 10.0, "tail_ms": 2000.0, "tail_share": 0.02},
        "5 to 15 ms later, and one answer in fifty 2 s later",
    ),
    "cut-in-headers": Case(
        23, FaultKind.DISCONNECT, {"stage": "headers"}, "closed within the headers"
    ),
    "cut-in-body": Case(
        23, FaultKind.DISCONNECT, {"stage": "body"}, "closed within the body"
    ),
    "server-error": _status(24, 500, "Internal server error"),
    "bad-gateway": _status(24, 502, "502 Bad Gateway", body="html"),
    "unavailable": _status(24, 503, "Service unavailable"),
    "gateway-timeout": _status(24, 504, "504 Gateway Time-out", body="html"),
    "throttled": _status(24, 429, "Too many requests"),
    "locked": _status(24, 423, "Locked"),
    "session-revoked": Case(
        24,
        FaultKind.STATUS,
        {"status": 401, "text": NO_SUCH_SESSION, "count": 1},
        "401 once, as for a session that ended early",
    ),
    "forbidden-once": Case(
        24,
        FaultKind.STATUS,
        {"status": 403, "text": "Forbidden", "count": 1},
        "403 once",
    ),
    "no-kid": _without("kid"),
    "no-iv": _without("iv"),
    "no-tag": _without("tag"),
    "iv-length": _resized("iv", ENCRYPT, 16),
    "tag-length": _resized("tag", ENCRYPT, 12),
    "plain-length": _resized("plain", DECRYPT, 31),
}

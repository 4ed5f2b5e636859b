"""Commands: what goes wrong."""

from typing import Any

from dsm_emulator.command import (
    Arguments,
    Command,
    Kind,
    Parameter,
    Steered,
    positional,
)
from dsm_emulator.errors import bad_request
from dsm_emulator.fault_names import catalog, fault_named
from dsm_emulator.faults import Struck
from dsm_emulator.named import app_named


_PARAMETERS = (
    Parameter("count", Kind.INTEGER, "only so often"),
    Parameter("seconds", Kind.NUMBER, "only so long, by the emulator's clock"),
    Parameter("path", Kind.TEXT, "only for this path, or a pattern such as /crypto/*"),
    Parameter("app", Kind.TEXT, "only for this app, by name or id"),
    Parameter("connection", Kind.INTEGER, "only for the connection of this number"),
    Parameter("ms", Kind.NUMBER, "a delay"),
    Parameter("jitter_ms", Kind.NUMBER, "latency: a random delay up to this"),
    Parameter("tail_ms", Kind.NUMBER, "latency: a delay that comes rarely"),
    Parameter("tail_share", Kind.NUMBER, "latency: how rarely, from 0 to 1"),
    Parameter("seed", Kind.INTEGER, "latency: of what is random"),
    Parameter("status", Kind.INTEGER, "status, redirect: the HTTP status"),
    Parameter("retry_after", Kind.TEXT, "status: Retry-After, as it is"),
    Parameter(
        "retry_date_s", Kind.NUMBER, "status: Retry-After as a date in so many seconds"
    ),
    Parameter(
        "body", Kind.TEXT, "status: text, json, json-string, html, empty or huge"
    ),
    Parameter("text", Kind.TEXT, "status, error-text: what the body says"),
    Parameter("location", Kind.TEXT, "redirect: the URL; {path} is the path"),
    Parameter("field", Kind.TEXT, "drop-, set-, resize-field: the field's name"),
    Parameter("value", Kind.JSON, "set-field: its value, as JSON"),
    Parameter("size", Kind.INTEGER, "in bytes"),
    Parameter("stage", Kind.TEXT, "disconnect: start, headers or body"),
)


def _fault(steered: Steered, given: Arguments) -> Any:
    parameters = {name: value for name, value in given.items() if name != "name"}
    if "app" in parameters:
        parameters["app"] = app_named(steered.dsm, parameters["app"]).app_id
    try:
        fault = fault_named(given["name"], **parameters)
    except ValueError as wrong:
        raise bad_request(f"not a fault: {wrong}") from None
    steered.dsm.faults.add(fault)
    return {"kind": fault.kind, **fault.told()}


def _shown(armed: Struck) -> dict[str, Any]:
    shown = {"kind": armed.kind, **armed.fault.told()}
    if armed.left is not None:
        shown["left"] = armed.left
    return shown


def _faults(steered: Steered, _: Arguments) -> Any:
    return [_shown(armed) for armed in steered.dsm.faults.armed()]


def _names(_: Steered, __: Arguments) -> Any:
    return catalog()


def _clear(steered: Steered, _: Arguments) -> Any:
    cleared = len(steered.dsm.faults.armed())
    steered.dsm.faults.clear()
    return {"cleared": cleared}


def _latency(steered: Steered, given: Arguments) -> Any:
    if given["ms"] < 0:
        raise bad_request("ms is at least 0")
    steered.dsm.latency_ms = float(given["ms"])
    return {"latency_ms": steered.dsm.latency_ms}


VIEWS = (
    Command("faults", "show the armed faults", _faults, is_view=True),
    Command("fault-names", "show what can go wrong, by name", _names, is_view=True),
)
COMMANDS = (
    Command(
        "fault",
        "arm a fault; `fault-names` shows them",
        _fault,
        (
            positional("name", Kind.TEXT, "its name"),
            *_PARAMETERS,
        ),
    ),
    Command("clear-faults", "disarm all faults, let go what hangs", _clear),
    Command(
        "latency",
        "let every answer come later",
        _latency,
        (positional("ms", Kind.NUMBER, "0: no later"),),
    ),
)

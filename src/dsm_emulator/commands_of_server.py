"""Commands: the journal, the clock, the switches, and the server itself."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dsm_emulator.all_switches import ALL_SWITCHES
from dsm_emulator.command import (
    Arguments,
    Command,
    Kind,
    Parameter,
    Steered,
    positional,
)
from dsm_emulator.errors import DsmError, bad_request


_PERIOD = re.compile(r"[+-]?(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Before and after these the dates of keys couldn't be written any more.
_EARLIEST_S = 0.0
_LATEST_S = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


def period_s(text: str) -> float:
    """Return the seconds that a text such as +3h, 1d12h or -90s stands for.

    Raises:
        ValueError: It stands for nothing.
    """
    if not _PERIOD.fullmatch(text):
        raise ValueError(f"not a period such as 90s, 3h or 1d12h: {text[:40]!r}")
    parts = _PART.findall(text)
    total_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return -total_s if text.startswith("-") else total_s


def _status(steered: Steered, _: Arguments) -> Any:
    dsm = steered.dsm
    return {
        "starts": steered.server().starts,
        "time": _iso(dsm.clock.now()),
        "keys": len(list(dsm.keys)),
        "apps": len(dsm.logins.apps),
        "faults": len(dsm.faults.armed()),
    }


def _journal(steered: Steered, _: Arguments) -> Any:
    return steered.dsm.journal.entries_json()


def _counters(steered: Steered, _: Arguments) -> Any:
    return steered.dsm.journal.counters_json()


def _keys(steered: Steered, _: Arguments) -> Any:
    return [key.as_json() for key in steered.dsm.keys]


def _clear_journal(steered: Steered, _: Arguments) -> Any:
    steered.dsm.journal.clear()
    return {}


def _clock(steered: Steered, given: Arguments) -> Any:
    clock = steered.dsm.clock
    if "move" in given:
        try:
            moved_s = period_s(given["move"])
        except ValueError as wrong:
            raise bad_request(str(wrong)) from None
        if given.get("back"):
            moved_s = -moved_s
        if not _EARLIEST_S <= clock.now() + moved_s <= _LATEST_S:
            raise bad_request("that is too far")
        clock.advance(moved_s)
    return {"time": _iso(clock.now()), "seconds": clock.now()}


def _iso(instant_s: float) -> str:
    return datetime.fromtimestamp(instant_s, UTC).isoformat(timespec="seconds")


def _switches(steered: Steered, _: Arguments) -> Any:
    return {
        name: {
            "value": switch.read(steered.dsm),
            "type": switch.type,
            "help": switch.help,
        }
        for name, switch in ALL_SWITCHES.items()
    }


def _switch(steered: Steered, given: Arguments) -> Any:
    switch = ALL_SWITCHES.get(given["name"])
    if switch is None:
        raise DsmError(404, "no such switch; `switches` shows them")
    try:
        switch.write(steered.dsm, given["value"])
    except ValueError as wrong:
        raise bad_request(str(wrong)) from None
    return {switch.name: switch.read(steered.dsm)}


def _save(steered: Steered, _: Arguments) -> Any:
    path = steered.server().save()
    if path is None:
        raise DsmError(409, "no state is kept; start with --persist")
    return {"state_file": str(path)}


def _restart(steered: Steered, given: Arguments) -> Any:
    killed = steered.dsm.kill_sessions() if given.get("lose_sessions") else 0
    steered.server().restart_soon()
    return {"starts": steered.server().starts, "lost_sessions": killed}


def _set_address(*, is_dead: bool) -> Callable[[Steered, Arguments], Any]:
    def run(steered: Steered, given: Arguments) -> Any:
        server, address = steered.server(), given["address"]
        try:
            if is_dead:
                server.kill_address(address)
            else:
                server.revive_address(address)
        except ValueError as wrong:
            raise DsmError(404, str(wrong)) from None
        return {"address": address, "dead": is_dead}

    return run


def _client_certificate(steered: Steered, given: Arguments) -> Any:
    try:
        certificate, key = steered.server().write_client_certificate(given["name"])
    except ValueError as wrong:
        raise bad_request(str(wrong)) from None
    return {"certificate_file": str(certificate), "key_file": str(key)}


_ADDRESS = positional("address", Kind.TEXT, "e.g. 127.0.0.2")
VIEWS = (
    Command("status", "show that it runs, and its time", _status, is_view=True),
    Command("journal", "show the latest requests", _journal, is_view=True),
    Command("counters", "show the counters", _counters, is_view=True),
    Command("keys", "show all keys", _keys, is_view=True),
    Command("switches", "show all switches", _switches, is_view=True),
)
COMMANDS = (
    Command("clear-journal", "forget the requests and the counters", _clear_journal),
    Command(
        "clock",
        "move the clock, such as +3h or 1d12h; show it",
        _clock,
        (
            Parameter("move", Kind.TEXT, "how far: s, m, h or d", is_positional=True),
            Parameter("back", Kind.FLAG, "backward"),
        ),
    ),
    Command(
        "switch",
        "set a switch",
        _switch,
        (
            positional("name", Kind.TEXT, "its name"),
            positional("value", Kind.JSON, "as JSON, or text"),
        ),
    ),
    Command("save", "write the state into the folder now", _save),
    Command(
        "restart",
        "reset every connection and listen again; keys and apps stay",
        _restart,
        (Parameter("lose_sessions", Kind.FLAG, "and end all sessions"),),
    ),
    Command(
        "kill-address",
        "let one address refuse connections",
        _set_address(is_dead=True),
        (_ADDRESS,),
    ),
    Command(
        "revive-address",
        "let it accept connections again",
        _set_address(is_dead=False),
        (_ADDRESS,),
    ),
    Command(
        "client-certificate",
        "write a client certificate and its key into the folder",
        _client_certificate,
        (positional("name", Kind.TEXT, "its subject"),),
    ),
)

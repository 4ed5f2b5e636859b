"""All switches by name: those of the model, and those of how answers are sent."""

import math
import operator
from typing import Any, TypeAlias

from dsm_emulator.dsm import Dsm
from dsm_emulator.switch_values import BOOL, Kind
from dsm_emulator.switches import SWITCHES, Switch


def _within(lowest: float, highest: float, name: str) -> Kind:
    def parse(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and lowest <= value <= highest:
            return float(value)
        raise ValueError(f"expected {name}, not this")

    return Kind(name, parse)


_Row: TypeAlias = tuple[str, str, Kind, str]
# Farther away, dates can't be written.
_CENTURY_S = 100 * 365 * 86400
_SKEW = _within(-_CENTURY_S, _CENTURY_S, "seconds")
_DELAY = _within(0, math.nextafter(math.inf, 0), "milliseconds")
_ROWS: tuple[_Row, ...] = (
    ("request-id", "sends_request_id", BOOL, "answers carry X-Request-Id"),
    (
        "echo-request-id",
        "headers.echoes_request_id",
        BOOL,
        "X-Request-Id is the client's, if there is one (assumed)",
    ),
    ("date", "headers.date", BOOL, "answers carry Date"),
    ("date-skew", "headers.date_skew_s", _SKEW, "by how much Date is ahead"),
    ("profiling", "headers.profiling", BOOL, "answers carry Profiling-Data"),
    ("latency", "latency_ms", _DELAY, "how much later every answer comes"),
)


def _switch(row: _Row) -> Switch:
    name, path, kind, text = row
    *folders, attribute = path.split(".")

    def read(dsm: Dsm) -> Any:
        return operator.attrgetter(path)(dsm)

    def write(dsm: Dsm, value: Any) -> None:
        holder = operator.attrgetter(".".join(folders))(dsm) if folders else dsm
        setattr(holder, attribute, kind.parse(value))
        dsm.touch()

    return Switch(name, kind.name, text, read, write)


NETWORK_SWITCHES = {row[0]: _switch(row) for row in _ROWS}
ALL_SWITCHES: dict[str, Switch] = {**SWITCHES, **NETWORK_SWITCHES}

"""Every switch of the domain by name: what it is, how to read it, how to set it.

The control API and the command line show this table and need no list of their own. A
switch whose help ends in "(assumed)" stands for something that is not known of DSM; its
initial value is what the reference takes for likely.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from dsm_emulator.dsm import Dsm
from dsm_emulator.state_table import CELLS, Condition, Operation
from dsm_emulator.switch_rows import ROWS, Row
from dsm_emulator.switch_values import STATUS, TEXT


@frozen
class Switch:
    """One switch.

    Attributes:
        name: E.g. "session-idle"; cells of the state table are
            "cell.<condition>.<operation>", their texts "text.<condition>".
        type: What it takes, for people.
        help: What it does, for people.
        read: From the model to a JSON value.
        write: From a JSON value to the model; ValueError, with a line for people, when
            it is none for this switch.
    """

    name: str
    type: str
    help: str
    read: Callable[[Dsm], Any]
    write: Callable[[Dsm, Any], None]


def _of_attribute(row: Row) -> Switch:
    name, path, kind, text = row
    folder, _, attribute = path.rpartition(".")

    def holder(dsm: Dsm) -> Any:
        return operator.attrgetter(folder)(dsm) if folder else dsm

    def write(dsm: Dsm, value: Any) -> None:
        parsed = kind.parse(value)
        with dsm.lock:
            setattr(holder(dsm), attribute, parsed)
            dsm.touch()

    def read(dsm: Dsm) -> Any:
        return kind.show(getattr(holder(dsm), attribute))

    return Switch(name, kind.name, text, read, write)


def _of_cell(condition: Condition, cell: Operation) -> Switch:
    name = f"cell.{_slug(condition)}.{cell.name.lower().replace('_', '-')}"

    def write(dsm: Dsm, value: Any) -> None:
        status = STATUS.parse(value)
        with dsm.lock:
            dsm.table.set(condition, cell, status)
            dsm.touch()

    return Switch(
        name,
        STATUS.name,
        f"answer to {cell.name} when: {condition.value} (assumed)",
        lambda dsm: dsm.table.status(condition, cell),
        write,
    )


def _of_text(condition: Condition) -> Switch:
    def write(dsm: Dsm, value: Any) -> None:
        text = TEXT.parse(value)
        with dsm.lock:
            dsm.table.set_text(condition, text)
            dsm.touch()

    return Switch(
        f"text.{_slug(condition)}",
        TEXT.name,
        f"text of the refusal when: {condition.value} (assumed)",
        lambda dsm: dsm.table.text(condition),
        write,
    )


def _slug(condition: Condition) -> str:
    return condition.name.lower().replace("_", "-")


SWITCHES: Mapping[str, Switch] = {
    switch.name: switch
    for switch in (
        *(_of_attribute(row) for row in ROWS),
        *(_of_cell(condition, cell) for condition, cell in CELLS),
        *(_of_text(condition) for condition in Condition),
    )
}

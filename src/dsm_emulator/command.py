"""What a command of the control API is: its name, its parameters, what it does.

One table of commands makes both the API and the command line, so that they can't
disagree.
"""

import math
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request


class Kind(Enum):
    """The types of parameters, by what they are in JSON."""

    TEXT = "a string"
    NUMBER = "a number"
    INTEGER = "an integer"
    FLAG = "a boolean"
    TEXTS = "a list of strings"
    JSON = "any JSON value"


class Default(Enum):
    """What the command line fills in, from the folder, when nothing is given."""

    KEY = "the key that `serve` made"
    APP = "the app that `serve` made for the plugin"
    GROUP = "the group that `serve` made"


@frozen
class Parameter:
    """One parameter of a command.

    Attributes:
        name: In JSON; on the command line with hyphens.
        kind: Its type.
        help: For people.
        is_positional: Whether the command line takes it by its place.
        is_required: Whether the command can't do without.
        default: What the command line fills in.
        is_file: Whether the command line takes a file and sends its text.
    """

    name: str
    kind: Kind
    help: str
    is_positional: bool = False
    is_required: bool = False
    default: Default | None = None
    is_file: bool = False


def positional(name: str, kind: Kind, text: str) -> Parameter:
    """Return a required parameter that the command line takes by its place."""
    return Parameter(name, kind, text, is_positional=True, is_required=True)


class Host(Protocol):
    """What commands may do to the server itself."""

    @property
    def starts(self) -> int:
        """How often it has started to listen."""

    def restart_soon(self) -> None:
        """Reset every connection and listen again, once the answer is sent."""

    def save(self) -> Path | None:
        """Write the state; return where, or None when none is kept."""

    def kill_address(self, host: str) -> None:
        """Let one address refuse connections."""

    def revive_address(self, host: str) -> None:
        """Undo `kill_address`."""

    def write_client_certificate(self, name: str) -> tuple[Path, Path]:
        """Write a new client certificate and its key; return where they are."""


@frozen
class Steered:
    """What a command works on.

    Attributes:
        host: None where a model is served by somebody else.
    """

    dsm: Dsm
    host: Host | None

    def server(self) -> Host:
        """Return the server.

        Raises:
            DsmError: 409, there is none that could be steered.
        """
        if self.host is None:
            raise DsmError(409, "there is no server to do this")
        return self.host


Arguments = Mapping[str, Any]


@frozen
class Command:
    """One command.

    Attributes:
        name: In the URL and on the command line.
        help: What it does, for people; a sentence without its point.
        run: Does it, under the model's lock; returns what to show.
        parameters: All of them.
        is_view: Whether it only shows; the API takes GET then, and POST otherwise.
    """

    name: str
    help: str
    run: Callable[[Steered, Arguments], Any]
    parameters: tuple[Parameter, ...] = ()
    is_view: bool = False

    def read(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments in *body*; null is nothing where JSON isn't wanted.

        Raises:
            DsmError: 400, one is missing, unknown or of another type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        given: dict[str, Any] = {}
        for name, value in body.items():
            if name not in known:
                raise bad_request(f"{self.name} knows no {name[:40]!r}")
            if value is not None or known[name].kind is Kind.JSON:
                _check(known[name], value)
                given[name] = value
        for parameter in self.parameters:
            if parameter.is_required and parameter.name not in given:
                raise bad_request(f"missing field `{parameter.name}`")
        return given


def _check(parameter: Parameter, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        Kind.TEXT: isinstance(value, str),
        Kind.NUMBER: is_number and math.isfinite(_number(value)),
        Kind.INTEGER: is_number and isinstance(value, int),
        Kind.FLAG: isinstance(value, bool),
        Kind.TEXTS: isinstance(value, list)
        and all(isinstance(item, str) for item in value),
        Kind.JSON: True,
    }[parameter.kind]
    if not fits:
        wanted = parameter.kind.value
        raise bad_request(f"invalid value of field `{parameter.name}`, not {wanted}")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan

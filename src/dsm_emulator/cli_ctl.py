"""The command line of the control API, made from the table of its commands."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsm_emulator.command import Command, Default, Kind, Parameter
from dsm_emulator.command_table import COMMANDS


if TYPE_CHECKING:
    from dsm_emulator.ctl import EmulatorProcess

_KEY_PARAMETERS = ("kid", "name")


def add_ctl(parser: argparse.ArgumentParser) -> None:
    """Add the commands to *parser*."""
    parser.add_argument("--dir", type=Path, required=True, help="serve's folder")
    commands = parser.add_subparsers(
        dest="ctl_command", required=True, metavar="COMMAND"
    )
    for command in COMMANDS.values():
        sentence = f"{command.help[0].upper()}{command.help[1:]}."
        _add(
            commands.add_parser(command.name, help=command.help, description=sentence),
            command,
        )


def run(options: argparse.Namespace, emulator: "EmulatorProcess") -> Any:
    """Run the command of *options* and return what it shows.

    Raises:
        ControlError: It could not be done.
    """
    from dsm_emulator.ctl import Call, ControlError  # noqa: PLC0415 - see `cli`

    command = COMMANDS[options.ctl_command]
    if command.is_view:
        return emulator.ask(Call("GET", command.name))
    try:
        body = _body(command, options, emulator)
    except (OSError, UnicodeDecodeError) as failed:
        raise ControlError(str(failed)) from None
    call = Call("POST", command.name, body)
    return emulator.restart(call) if command.name == "restart" else emulator.ask(call)


def _add(parser: argparse.ArgumentParser, command: Command) -> None:
    which: Any = parser
    if {parameter.name for parameter in command.parameters}.issuperset(_KEY_PARAMETERS):
        which = parser.add_mutually_exclusive_group()
    for parameter in command.parameters:
        is_which = parameter.name in _KEY_PARAMETERS
        _add_parameter(which if is_which else parser, parameter)


def _add_parameter(parser: Any, parameter: Parameter) -> None:
    text = parameter.help
    if parameter.default is not None:
        text = f"{text}; {parameter.default.value} if absent"
    # A % would be argparse's.
    more: dict[str, Any] = {"help": text.replace("%", "%%")}
    if parameter.is_positional:
        if not parameter.is_required:
            more["nargs"] = "?"
        parser.add_argument(parameter.name, type=_READ[parameter.kind], **more)
        return
    option = f"--{parameter.name.replace('_', '-')}"
    if parameter.kind is Kind.FLAG:
        parser.add_argument(option, action="store_true", default=None, **more)
        return
    if parameter.is_required:
        more["required"] = True
    read = Path if parameter.is_file else _READ[parameter.kind]
    parser.add_argument(option, type=read, **more)


def _body(
    command: Command, options: argparse.Namespace, emulator: "EmulatorProcess"
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for parameter in command.parameters:
        value = getattr(options, parameter.name)
        if isinstance(value, _Null):
            body[parameter.name] = None
        elif isinstance(value, Path):
            body[parameter.name] = value.read_text("utf-8")
        elif value is not None:
            body[parameter.name] = value
        elif parameter.default is not None:
            body[parameter.name] = _filled_in(parameter.default, emulator)
    if "kid" in body:
        body.pop("name", None)
    return body


def _filled_in(default: Default, emulator: "EmulatorProcess") -> str:
    return {
        Default.KEY: emulator.key_name,
        Default.APP: emulator.app_id,
        Default.GROUP: emulator.group_id,
    }[default]


class _Null:
    """JSON's null, where None is: not given."""


def _json_or_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return _Null() if value is None else value


def _texts(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


_READ: dict[Kind, Any] = {
    Kind.TEXT: str,
    Kind.NUMBER: float,
    Kind.INTEGER: int,
    Kind.TEXTS: _texts,
    Kind.JSON: _json_or_text,
}

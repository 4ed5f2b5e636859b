"""All commands of the control API, by name: first what shows, then what does."""

from dsm_emulator import (
    commands_of_apps,
    commands_of_faults,
    commands_of_keys,
    commands_of_server,
)
from dsm_emulator.command import Command


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        *commands_of_server.VIEWS,
        *commands_of_apps.VIEWS,
        *commands_of_faults.VIEWS,
        *commands_of_keys.COMMANDS,
        *commands_of_apps.COMMANDS,
        *commands_of_faults.COMMANDS,
        *commands_of_server.COMMANDS,
    )
}

"""A local DSM: real REST, real TLS, real AES-GCM. Imports none of our packages.

`Dsm` is the model in memory, `EmulatorServer` serves it from a thread, `Fault` says
what goes wrong. `dsm_emulator.cli` is the command line form of the same three.
"""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from dsm_emulator.clock import Clock
    from dsm_emulator.demo_key import DemoKey
    from dsm_emulator.dsm import Dsm
    from dsm_emulator.fault import Fault
    from dsm_emulator.fault_kinds import FaultKind
    from dsm_emulator.fault_names import fault_named
    from dsm_emulator.server import EmulatorServer
    from dsm_emulator.state_table import Condition, Operation
    from dsm_emulator.tls import ClientCertificates

__all__ = [
    "ClientCertificates",
    "Clock",
    "Condition",
    "DemoKey",
    "Dsm",
    "EmulatorServer",
    "Fault",
    "FaultKind",
    "Operation",
    "fault_named",
]

_HOMES = {
    "ClientCertificates": "tls",
    "Clock": "clock",
    "Condition": "state_table",
    "DemoKey": "demo_key",
    "Dsm": "dsm",
    "EmulatorServer": "server",
    "Fault": "fault",
    "FaultKind": "fault_kinds",
    "Operation": "state_table",
    "fault_named": "fault_names",
}


def __getattr__(name: str) -> object:
    # Lazy, so that `emulator --help` and `emulator ctl` start without uvicorn.
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"dsm_emulator.{home}"), name)

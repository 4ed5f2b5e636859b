"""Runs a program as our systemd unit confines it, as far as a process can by itself.

    python sandboxed.py UNIT PROGRAM ARGUMENT...

Taken from the unit: the filter of system calls (its sets as systemd-analyze lists them,
loaded by libseccomp), the address families, MemoryDenyWriteExecute, the capabilities,
the limits and the umask. No manager is asked, no mount made: the folders are as they
are. It ends in exec, so that the program is the process that was started.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX


PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1
ALLOW = 0x7FFF0000
EPERM = 0x00050000 | 1
EQUAL = 4
LAST_CAPABILITY = 40


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def main(unit: Path, command: list[str]) -> None:
    """Confine this process, and become the program."""
    settings = [
        line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line
    ]
    calls = _allowed([value for name, value in settings if name == "SystemCallFilter"])
    given = dict(settings)
    assert given["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6"
    assert given["MemoryDenyWriteExecute"] == given["NoNewPrivileges"] == "yes"
    assert given["CapabilityBoundingSet"] == ""
    os.umask(int(given["UMask"], 8))
    files = int(given["LimitNOFILE"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0), "mdwe")
    _filter(calls)
    # Root without a bounding set: exec leaves it no capability.
    os.execv(command[0], command)  # noqa: S606 - that is what this is for


def _allowed(filters: list[str]) -> set[str]:
    """Return the system calls that the unit's lines leave, in their order."""
    allowed: set[str] = set()
    for line in filters:
        words = line.removeprefix("~").split()
        named = {call for word in words for call in _calls_of(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def _calls_of(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", word],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: set[str] = set()
    for line in shown.splitlines():
        entry = line.strip()
        if line.startswith(" ") and entry and not entry.startswith("#"):
            found |= _calls_of(entry)
    return found


def _filter(calls: set[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(EPERM))
    # What systemd adds so that exec itself works is in its @default already.
    for name in sorted(calls):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and name != "socket":
            _check(library.seccomp_rule_add(context, ALLOW, number, 0), name)
    socket = library.seccomp_syscall_resolve_name(b"socket")
    for family in (AF_UNIX, AF_INET, AF_INET6):
        same = Comparison(0, EQUAL, family, 0)
        _check(library.seccomp_rule_add(context, ALLOW, socket, 1, same), "socket")
    _check(library.seccomp_load(context), "load")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(f"{what}: {result}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

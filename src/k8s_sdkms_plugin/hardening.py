"""Keeps seeds and the credential out of core dumps and of other processes' reach."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final


_PR_SET_DUMPABLE: Final = 4


def harden_process() -> None:
    """Turn core dumps off and make the process not dumpable (prctl(2)).

    A standard descriptor that came closed is opened on /dev/null: else a connection to
    DSM could get the number of stderr, and log lines would go into it.

    A process that is not dumpable can't be attached to by others of the same user, and
    its ``/proc`` entries belong to root.

    Raises:
        OSError: The kernel refuses, which Linux never does for one's own process.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")

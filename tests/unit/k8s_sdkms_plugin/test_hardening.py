from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys

import pytest

from k8s_sdkms_plugin import hardening


SCRIPT = """
import ctypes, json, os, resource
from k8s_sdkms_plugin.hardening import harden_process
harden_process()
opened = [os.stat(n).st_rdev == os.stat("/dev/null").st_rdev for n in (0, 1, 2)]
os.write({report}, json.dumps({{
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "null": opened,
}}).encode())
"""


def test_process_dumps_no_core_and_is_not_dumpable() -> None:
    script = SCRIPT.format(report=1)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    )
    found = json.loads(done.stdout)
    assert found["core"] == [0, 0]
    assert found["dumpable"] == 0
    assert found["null"][1:] == [False, False]


def test_closed_standard_descriptors_lead_nowhere() -> None:
    # Else a connection to DSM could become "stderr", and get the log lines.
    script = SCRIPT.format(report=9)
    shell = 'exec 9>&1 "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", script],
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout)["null"] == [True, True, True]


def test_kernel_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def prctl(self, *_arguments: int) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_a, **_k: Refusing())
    monkeypatch.setattr(resource, "setrlimit", lambda *_a: None)
    with pytest.raises(OSError, match="PR_SET_DUMPABLE"):
        hardening.harden_process()

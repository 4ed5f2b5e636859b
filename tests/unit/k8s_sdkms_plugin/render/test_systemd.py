"""systemd itself reads the unit: ``systemd-analyze verify`` and ``security``.

Nothing is started, and no manager is asked. systemd-analyze is Debian's package
systemd, which scripts/e2e-setup names; where it is missing these tests are skipped,
or, with E2E_REQUIRED=1, fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.k8s_sdkms_plugin.render.support import Render

MOST_EXPOSED = 2.0
"""systemd's score, from 0 to 10; what is left is the network, and root's name."""

VARIANTS = {
    "recommended": (),
    "user": ("--user", "daemon"),
    "group": ("--set", "socket_group=adm", "--set", "socket_mode=0660"),
    "elsewhere": ("--set", "socket_file=/srv/k/s.sock", "--set", "state_dir=/srv/s"),
}


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None and os.environ.get("E2E_REQUIRED") == "1":
        pytest.fail("there is no systemd-analyze; apt-get install systemd")
    if found is None:
        pytest.skip("there is no systemd-analyze")
    return found


@pytest.fixture(params=VARIANTS)
def unit(request: pytest.FixtureRequest, render: Render, tmp_path: Path) -> Path:
    path = tmp_path / "k8s-sdkms-plugin.service"
    # A program that is there: verify looks for it.
    program = ("--program", shutil.which("true"))
    made = render("systemd", *program, *VARIANTS[request.param], "--output", path)
    assert made.code == 0, made.err
    return path


def test_unit_is_one_without_a_warning(analyze: str, unit: Path) -> None:
    done = subprocess.run(
        [analyze, "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unit_is_exposed_little(analyze: str, unit: Path) -> None:
    threshold = f"--threshold={MOST_EXPOSED * 10:.0f}"
    done = subprocess.run(
        [analyze, "security", "--offline=yes", "--json=short", threshold, unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    unset = {
        item["json_field"]
        for item in json.loads(done.stdout)
        if item["set"] is False and float(item["exposure"] or 0) >= 0.2
    }
    assert unset <= {
        "UserOrDynamicUser",
        "PrivateNetwork",
        "IPAddressDeny",
        "RestrictAddressFamilies_AF_INET_INET6",
        "SystemCallFilter_resources",
        "SystemCallFilter_privileged",
        "SupplementaryGroups",
    }

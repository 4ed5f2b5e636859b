import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsm_emulator import DemoKey, EmulatorServer
from dsm_emulator.account import Permission
from dsm_emulator.dsm import VERSION


PROGRAM = Path(__file__).with_name("sdkms_session.py")


@pytest.fixture(params=[False, True], ids=["5.8", "before 5.8"])
def legacy(request: pytest.FixtureRequest, demo: DemoKey) -> bool:
    demo.dsm.rules.legacy_paths = request.param
    return demo.dsm.rules.legacy_paths


@pytest.fixture
def seen(server: EmulatorServer, demo: DemoKey) -> Any:
    demo.app.groups[demo.group.group_id] = frozenset(Permission)
    given = {
        "url": server.url,
        "ca_file": str(server.ca_file),
        "api_key": demo.api_key,
        "group_id": demo.group.group_id,
    }
    done = subprocess.run(
        [sys.executable, PROGRAM],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fortanix_own_client_takes_the_emulator_for_dsm(
    legacy: bool,  # noqa: FBT001 - a fixture
    seen: Any,
    demo: DemoKey,
) -> None:
    rotated = seen.pop("renamed")
    assert seen == {
        "version": VERSION,
        "made": ["made by sdkms", 256, "KeyObjectState.Active", True],
        "twice": [409, "sobject already exists"],
        "kid is the key's": True,
        "lengths": [32, 12, 16],
        "decrypted": True,
        "batch": [200],
        "paths before 5.8": [0, 0] if legacy else [404, 404],
        "rotated to another kid": True,
        "by name is the new one": True,
        "old data decrypted": True,
        "listed": ["kek", "made by sdkms", rotated],
        "found": [True],
        "revoked": [403, True],
        "deleted": [404, "sobject does not exist"],
        "ended": [401, "Session does not exist"],
    }
    assert rotated == "made by sdkms (rotated at 20231114T221320Z)"
    assert len(demo.dsm.sessions) == 0

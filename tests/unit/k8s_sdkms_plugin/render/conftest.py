from __future__ import annotations

import pytest
from tests.unit.k8s_sdkms_plugin.render.support import Render

from k8s_sdkms_plugin.render import command


@pytest.fixture
def render(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Render:
    # It would end the core dumps of the tests' own process.
    monkeypatch.setattr(command, "harden_process", lambda: None)
    return Render(capsys)

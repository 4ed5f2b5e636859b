"""Correct plugins of other kinds than the reference: the kit must pass them too."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand
from tests.unit.kms_conformance.bad_plugins.of_decrypt import bytes_of
from tests.unit.kms_conformance.support import (
    Site,
    checks,
    ids_of,
    report,
    what_failed,
)

from kms_conformance.checks import everything
from kms_conformance.outcome import Verdict
from kms_conformance.reference import ReferencePlugin
from kms_conformance.reference_v1 import ReferenceWithV1


if TYPE_CHECKING:
    from adapters_grpc.messages import (
        DecryptRequest,
        DecryptResponse,
        EncryptRequest,
        EncryptResponse,
    )
    from kms_conformance.reference import RemoteKms


V1_CHECKS = {"V01", "V02", "V03", "V05"}


class OnAnAbstractSocket(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._name = f"\0{path}"
        self.path = Path(f"@{path}")

    async def start(self) -> None:
        self.listen(self._name)


class InText(ReferencePlugin):
    """Its ciphertexts are Base64."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.ciphertext = base64.b64encode(answer.ciphertext)
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.ciphertext = bytes_of(request.ciphertext)
        return await super().decrypt(request)


@pytest.mark.parametrize(
    "plugin", [ByHand, ReferenceWithV1, OnAnAbstractSocket, InText]
)
async def test_other_correct_plugins_pass_what_does_not_disturb(
    plugin: type[ReferencePlugin], directory: Path
) -> None:
    chosen = tuple(one for one in everything() if not one.disruption)
    async with Site(directory, plugin) as site:
        found = await report(site.target, chosen)
    assert what_failed(found) == {}
    passed = ids_of(found, Verdict.PASSED)
    assert (passed >= V1_CHECKS) == (plugin is ReferenceWithV1)
    assert ("V04" in passed) == (plugin is not ReferenceWithV1)
    assert ("T16" in passed) == (plugin is OnAnAbstractSocket)
    assert ("T15" in passed) == (plugin is not OnAnAbstractSocket)


async def test_abstract_socket_with_another_name_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms_conformance.presence.GONE_AFTER_S", 0.0)
    async with Site(directory, OnAnAbstractSocket) as site:
        target = site.target
        await site.plugin.stop()
        found = await report(target, checks({"T16"}))
    assert "nobody listens there" in what_failed(found)["T16"]

"""What the checks of rotation say about plugins that are not at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.kms_conformance.support import Site, checks, ids_of, report

from kms_conformance.outcome import Verdict
from kms_conformance.reference import ReferencePlugin, RemoteKms


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import (
        DecryptRequest,
        DecryptResponse,
        EncryptRequest,
        EncryptResponse,
        StatusRequest,
        StatusResponse,
    )
    from kms_conformance.report import Report


class Coasts(ReferencePlugin):
    """Goes on in an outage with the keys that it saw last; a correct plugin may."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._shared = kms
        self.kms = RemoteKms(list(kms.versions))

    def _look(self) -> None:
        if not self._shared.broken:
            self.kms.versions = list(self._shared.versions)

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._look()
        return await super().status(request)

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        self._look()
        return await super().encrypt(request)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self._look()
        return await super().decrypt(request)


def measured(found: Report) -> dict[str, float]:
    return {one.name: one.value for r in found.results for one in r.measurements}


async def test_plugin_that_goes_on_in_an_outage_passes(directory: Path) -> None:
    chosen = checks({"R02", "R09", "R10", "R11", "D21"})
    async with Site(directory, Coasts) as site:
        found = await report(site.target, chosen)
    assert ids_of(found, Verdict.PASSED) == {one.id for one in chosen}
    figures = measured(found)
    assert figures["Encrypts answered in the outage"] > 0
    assert figures["answered without the key service"] > 0


async def test_plugin_that_refuses_in_an_outage_passes(site: Site) -> None:
    found = await report(site.target, checks({"R10", "D21"}))
    assert ids_of(found, Verdict.PASSED) == {"R10", "D21"}
    assert measured(found)["Encrypts answered in the outage"] == 0
    assert measured(found)["answered without the key service"] == 0


async def test_rotation_is_measured(site: Site) -> None:
    found = await report(site.target, checks({"R04"}))
    assert measured(found)["from the rotation to the new key_id"] >= 0

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tests.unit.kms_conformance.bad_plugins import bad

from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from adapters_grpc.messages import DecryptRequest, DecryptResponse


@bad("R05", also=("R06", "R11", "A05"))
class LosesTheOldKey(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if request.key_id != self.kms.key_ids()[-1]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "that key was rotated away")
        return await super().decrypt(request)

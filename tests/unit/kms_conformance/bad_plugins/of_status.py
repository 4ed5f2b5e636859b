from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.kms_conformance.bad_plugins import bad

from kms_conformance.reference import ReferencePlugin


if TYPE_CHECKING:
    from adapters_grpc.messages import StatusRequest, StatusResponse


@bad("S02", also=("A",))
class SaysAnotherVersion(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version = "v3"
        return answer


@bad("S03", also=("A", "S12"))
class SaysOkInCapitals(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.healthz = "OK"
        return answer

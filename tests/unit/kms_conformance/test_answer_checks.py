"""What is no failure of Status or Encrypt: it earns a warning, or passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.unit.kms_conformance.bad_plugins.of_encrypt import AnnotatedBadly, Padded
from tests.unit.kms_conformance.bad_plugins.of_status import (
    InAnOutage,
    Renamed,
    SaysNotOkWithAValidKeyId,
)
from tests.unit.kms_conformance.support import Site, checks, ids_of, report

from adapters_grpc.messages import EncryptResponse
from kms_conformance.outcome import Verdict
from kms_conformance.reference import ReferencePlugin, Refusal
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import EncryptRequest, StatusRequest, StatusResponse


class SaysV2Beta1(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version = "v2beta1"
        return answer


class HasAKeyIdOf1024Bytes(Renamed):
    def renamed(self, key_id: str) -> str:
        return key_id.ljust(1024, "0")


class HasALineBreakInItsKeyId(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"{key_id}\nlevel=error msg=forged"


class HasAnEscapeInItsKeyId(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"\x1b[2J{key_id}"


class NamesItsKeyInClear(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"projects/payments/keys/{key_id}"


class SealsIn1024Bytes(Padded):
    length = 1024


class AnnotatesWithTwoKilobytes(AnnotatedBadly):
    content = bytes(2048)


class SealsWhateverItIsGiven(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if len(request.plaintext) <= 512:
            return await super().encrypt(request)
        key_id = self.kms.key_ids()[-1]
        return EncryptResponse(ciphertext=bytes(70_000), key_id=key_id)


class SaysNothingOfAnOutage(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        answer.healthz = answer.key_id = ""
        return answer


@pytest.mark.parametrize(
    ("plugin", "check_id", "warning"),
    [
        (SaysV2Beta1, "S02", "v2beta1"),
        (HasAKeyIdOf1024Bytes, "S04", "1024 bytes"),
        (HasALineBreakInItsKeyId, "S05", r"do not print: reference:0\x0alevel"),
        (HasAnEscapeInItsKeyId, "S05", r"do not print: \x1b[2J"),
        (NamesItsKeyInClear, "S11", "projects/payments"),
        (SaysNotOkWithAValidKeyId, "S14", "#138950"),
        (SaysNothingOfAnOutage, "S15", "no text"),
        (SealsIn1024Bytes, "E01", "1024 bytes"),
        (AnnotatesWithTwoKilobytes, "E04", "2067 bytes"),
        (SealsWhateverItIsGiven, "E12", "70000 bytes"),
        (AnnotatesWithTwoKilobytes, "E15", "bytes are added"),
    ],
)
async def test_answer_that_could_be_better_earns_a_warning(
    plugin: type[ReferencePlugin], check_id: str, warning: str, directory: Path
) -> None:
    async with Site(directory, plugin) as site:
        found = await report(site.target, checks({check_id}))
    (warned,) = found.of(Verdict.WARNED)
    assert warning in " ".join(warned.warnings)


class HashesTheNameOfItsKey(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"v1:{key_id.encode().hex().ljust(64, '0')}"


class NumbersItsKeyWithAUuid(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"kms:f0e1d2c3-0000-4000-8000-{int(key_id[-1]):012}"


@pytest.mark.parametrize("plugin", [HashesTheNameOfItsKey, NumbersItsKeyWithAUuid])
async def test_hash_or_number_is_a_good_name_of_a_key(
    plugin: type[ReferencePlugin], directory: Path
) -> None:
    async with Site(directory, plugin) as site:
        found = await report(site.target, checks({"S11"}))
    assert ids_of(found, Verdict.PASSED) == {"S11"}


class RefusesWhatIsNeverSent(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if not request.uid or not request.plaintext:
            text = "kube-apiserver sends no such thing"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        return await super().encrypt(request)


async def test_what_kube_apiserver_never_sends_may_be_refused(directory: Path) -> None:
    async with Site(directory, RefusesWhatIsNeverSent) as site:
        found = await report(site.target, checks({"E09", "E11"}))
    assert ids_of(found, Verdict.PASSED) == {"E09", "E11"}


async def test_answer_to_e12_does_not_count_for_t08(directory: Path) -> None:
    async with Site(directory, SealsWhateverItIsGiven) as site:
        found = await report(site.target, checks({"E12", "T08"}))
    assert ids_of(found, Verdict.WARNED) == {"E12"}
    assert ids_of(found, Verdict.PASSED) == {"T08"}


async def test_counter_that_prints_no_number_fails_its_check(site: Site) -> None:
    target = site.target
    assert isinstance(target.pulls, dict)
    target.pulls[Hook.KMS_CALLS] = target.pulls[Hook.ROTATE]
    found = await report(target, checks({"S10"}))
    (failed,) = found.of(Verdict.FAILED)
    assert "no number" in failed.came
    assert failed.sent == "the hook --kms-calls"

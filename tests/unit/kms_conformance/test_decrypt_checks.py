"""What the checks of Decrypt say about plugins that are not at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tests.unit.kms_conformance.bad_plugins.annotated import (
    Annotated,
    AnnotatedForReadersOnly,
)
from tests.unit.kms_conformance.support import Site, checks, ids_of, report

from kms_conformance.checks import everything
from kms_conformance.outcome import Verdict
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import (
        DecryptRequest,
        DecryptResponse,
        EncryptRequest,
        EncryptResponse,
    )


ANNOTATIONS = {"D10", "D11", "D12", "D13"}


async def test_annotated_plugin_passes_what_does_not_disturb(directory: Path) -> None:
    chosen = tuple(one for one in everything() if not one.disruption)
    async with Site(directory, Annotated) as site:
        found = await report(site.target, chosen)
    assert ids_of(found, Verdict.FAILED) == set()
    assert ids_of(found, Verdict.PASSED) >= ANNOTATIONS


async def test_annotation_that_means_nothing_earns_a_warning(directory: Path) -> None:
    async with Site(directory, AnnotatedForReadersOnly) as site:
        found = await report(site.target, checks(ANNOTATIONS))
    assert ids_of(found, Verdict.PASSED) == ANNOTATIONS - {"D11"}
    (warned,) = found.of(Verdict.WARNED)
    assert len(warned.warnings) == 2
    assert "ticket.example.com" in " ".join(warned.warnings)


async def test_checks_of_annotations_are_not_run_without_any(site: Site) -> None:
    found = await report(site.target, checks(ANNOTATIONS))
    assert ids_of(found, Verdict.NOT_RUN) == ANNOTATIONS - {"D12"}


class SpellsLoosely(ReferencePlugin):
    """Its ciphertexts are text of which it reads a letter in either case."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.ciphertext = answer.ciphertext.hex().encode() + b"aA"
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        text, end = request.ciphertext[:-2], request.ciphertext[-2:]
        try:
            request.ciphertext = bytes.fromhex(text.decode())
        except ValueError:
            text = b""
        if not text or not end.isalnum():
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "it is no text")
        return await super().decrypt(request)


async def test_other_spelling_of_the_same_ciphertext_earns_a_warning(
    directory: Path,
) -> None:
    async with Site(directory, SpellsLoosely) as site:
        found = await report(site.target, checks({"D06", "D09"}))
    assert ids_of(found, Verdict.WARNED) == {"D06"}
    assert ids_of(found, Verdict.FAILED) == set()


class SaysItInTwoLines(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            return await super().decrypt(request)
        except Refusal as refusal:
            text = f"refused:\n{refusal.text}"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None


async def test_refusal_of_two_lines_earns_a_warning(directory: Path) -> None:
    async with Site(directory, SaysItInTwoLines) as site:
        found = await report(site.target, checks({"D18"}))
    assert ids_of(found, Verdict.WARNED) == {"D18"}

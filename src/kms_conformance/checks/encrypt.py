"""Encrypt: what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.api_server.rules import MAX_CIPHERTEXT_BYTES, ciphertext_problems
from kms_conformance.check import check
from kms_conformance.outcome import MUST, Failed


if TYPE_CHECKING:
    from kms_conformance.connection import Sealed
    from kms_conformance.context import Context


@check("E01", MUST)
async def sealed_seed_has_an_accepted_length(kit: Context) -> None:
    """A sealed seed has 1 to 1024 bytes.

    Sends: Encrypt of 32 random bytes with a new uid.
    Expects: a ciphertext of 1 to 1024 bytes; 1024 exactly with a warning.
    Why: kube-apiserver refuses any other length, and then can't write.
    Source: `env` 449-457
    """
    sealed = await kit.dial().encrypt(kit.seed())
    for problem in ciphertext_problems(sealed.ciphertext):
        raise Failed(problem)
    kit.measure("ciphertext", len(sealed.ciphertext), "bytes")
    if len(sealed.ciphertext) == MAX_CIPHERTEXT_BYTES:
        kit.warn("the ciphertext has 1024 bytes, and the documentation asks for less")


@check("E06", MUST)
async def seeds_are_sealed_distinctly(kit: Context) -> None:
    """Distinct seeds are sealed distinctly.

    Sends: Encrypt of 1000 distinct seeds, 10 at once.
    Expects: 1000 distinct triples of ciphertext, key_id and annotations.
    Why: kube-apiserver finds an opened seed in its cache by the hash of this triple:
        with two alike it decrypts objects under the wrong seed.
    Source: `docs`
    """
    plugin = kit.dial()

    async def seal() -> Sealed:
        return await plugin.encrypt(kit.seed())

    count = kit.count(1000)
    sealed = await kit.parallel([seal] * count, width=10)
    if len(set(sealed)) != count:
        raise Failed(f"{len(set(sealed))} distinct answers to {count} seeds")

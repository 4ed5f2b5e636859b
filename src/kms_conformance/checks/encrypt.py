"""Encrypt: what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.rules import (
    MAX_CIPHERTEXT_BYTES,
    annotation_key_problems,
    annotation_size_problems,
    ciphertext_problems,
    key_id_problems,
    sealed_problems,
)
from kms_conformance.check import check
from kms_conformance.expect import quick_enough, same
from kms_conformance.leaks import leaks
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.connection import Sealed
    from kms_conformance.context import Context


MUCH_ANNOTATION_BYTES: Final = 1024
MUCH_OVERHEAD_BYTES: Final = 2048

TRIES_IN_OUTAGE: Final = 10
TRIED_FOR_S: Final = 5.0


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


@check("E02", MUST)
async def key_id_is_that_of_status(kit: Context) -> None:
    """Encrypt names the key that Status names.

    Sends: Status, Encrypt of a seed, Status.
    Expects: one key_id three times, of 1 to 1024 bytes.
    Why: an answer with another key_id than that of Status is thrown away; then nothing
        can be written.
    Source: `cfg` 419; `env` 477-488
    """
    plugin = kit.dial()
    before = (await plugin.status()).key_id
    sealed = await plugin.encrypt(kit.seed())
    after = (await plugin.status()).key_id
    for problem in key_id_problems(sealed.key_id):
        raise Failed(problem)
    if not before == sealed.key_id == after:
        raise Failed(f"{sealed.key_id!r} between {before!r} and {after!r} of Status")


@check("E03", MUST)
async def annotation_keys_are_domain_names(kit: Context) -> None:
    """Every key of an annotation is a domain name.

    Sends: Encrypt of a seed.
    Expects: keys in lower case, with two labels at least, and without a slash.
    Why: kube-apiserver refuses all others, also the example with a slash that stands
        in its own documentation.
    Source: `env` 462-470; `contract` 1.4
    """
    sealed = await kit.dial().encrypt(kit.seed())
    if problems := annotation_key_problems(sealed.annotations):
        raise Failed("; ".join(problems))


@check("E04", MUST)
async def annotations_are_small(kit: Context) -> None:
    """The annotations have 32768 bytes at most, and should have 1024.

    Sends: Encrypt of a seed.
    Expects: keys and values of 32768 bytes at most together; a warning over 1024.
    Why: kube-apiserver refuses more; and it stores them with each object.
    Source: `env` 471
    """
    sealed = await kit.dial().encrypt(kit.seed())
    for problem in annotation_size_problems(sealed.annotations):
        raise Failed(problem)
    size = _annotation_bytes(sealed)
    kit.measure("annotations", size, "bytes")
    if size > MUCH_ANNOTATION_BYTES:
        kit.warn(f"{size} bytes of annotations stand in each object")


@check("E05", MUST)
async def seed_does_not_show(kit: Context) -> None:
    """What Encrypt answers does not hold the seed.

    Sends: Encrypt of a seed.
    Expects: no part of it in ciphertext, key_id or annotations: neither as it is, nor
        in hexadecimal or Base64.
    Why: all three are stored in clear beside the object that the seed protects.
    Source: `kmslib` grpc_service_test.go; `proto`
    """
    seed = kit.seed()
    sealed = await kit.dial().encrypt(seed)
    pairs = (
        part for key, value in sealed.annotations for part in (key.encode(), value)
    )
    places = {
        "the ciphertext": sealed.ciphertext,
        "the key_id": sealed.key_id.encode(),
        "the annotations": b" ".join(pairs),
    }
    for place, content in places.items():
        if "the plaintext" in leaks(content.decode("latin-1"), seed):
            raise Failed(f"the seed stands in {place}")


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


@check("E07", SHOULD)
async def one_seed_is_sealed_differently_each_time(kit: Context) -> None:
    """The same plaintext is sealed differently each time.

    Sends: Encrypt of one seed, twice.
    Expects: different ciphertexts.
    Why: equal ones mean that the cipher has no fresh nonce: what is safe for random
        seeds by luck alone is not for anything else.
    Source: `contract` E07
    """
    plugin, seed = kit.dial(), kit.seed()
    first, second = await plugin.encrypt(seed), await plugin.encrypt(seed)
    if first.ciphertext == second.ciphertext:
        raise Failed("the same ciphertext twice")


@check("E13", MUST, limit_s=330)
async def encrypt_is_fast(kit: Context) -> None:
    """Encrypt answers within the timeout, and should answer within 100 ms.

    Sends: Encrypt of 100 seeds, one after another.
    Expects: each within 3 s; a 99th percentile of 100 ms at most, else a warning.
    Why: a start, a reload and a rotation each wait for one; a late answer is a failure.
    Source: `docs`
    """
    plugin = kit.dial()
    for _ in range(kit.count(100, least=20)):
        await plugin.encrypt(kit.seed())
    quick_enough(kit, "Encrypt", p99_ms=100)


@check("E14", MUST, needs=(Hook.BREAK, Hook.HEAL), limit_s=120)
async def encrypt_never_hangs(kit: Context) -> None:
    """While the key service is broken, Encrypt seals soundly or fails in time.

    Sends: --break, Encrypt of ten seeds in 5 s or more, --heal, Decrypt of the answers.
    Expects: an error within 3 s; or, from a local key, an answer as kube-apiserver
        accepts it, which opens when the key service is back.
    Why: a call that hangs keeps kube-apiserver from trying again; one that seals under
        a key that gets lost loses what is written meanwhile.
    Source: `cfg` 383-447; `env` 365-419
    """
    plugin = kit.dial()
    await kit.pull(Hook.BREAK)
    answered: list[tuple[bytes, Sealed]] = []
    for _ in range(TRIES_IN_OUTAGE):
        seed = kit.seed()
        try:
            answered.append((seed, await plugin.encrypt(seed)))
        except CallFailed as failure:
            if failure.no_answer or failure.code == "OK":
                raise
        await kit.idle(TRIED_FOR_S / TRIES_IN_OUTAGE)
    kit.measure("answered while broken", len(answered), "calls")
    for _, sealed in answered:
        for problem in sealed_problems(sealed):
            raise Failed(problem)
    await kit.pull(Hook.HEAL)
    await kit.serving()
    for seed, sealed in answered:
        same(await plugin.decrypt(sealed), seed, sent="what was sealed while broken")


@check("E15", SHOULD)
async def stored_objects_grow_little(kit: Context) -> None:
    """What a plugin adds to each stored object is small.

    Sends: Encrypt of a seed.
    Expects: ciphertext, key_id and annotations that can be stored at all; a warning if
        they have more than 2048 bytes together.
    Why: they stand in each encrypted object in etcd, and pass with it to each API
        server that lists.
    Source: `env` 299-305, 446-488
    """
    sealed = await kit.dial().encrypt(kit.seed())
    size = len(sealed.ciphertext) + len(sealed.key_id.encode())
    size += _annotation_bytes(sealed)
    kit.measure("added to each object", size, "bytes")
    if problems := sealed_problems(sealed):
        raise Failed("; ".join(problems))
    if size > MUCH_OVERHEAD_BYTES:
        kit.warn(f"{size} bytes are added to each object")


def _annotation_bytes(sealed: Sealed) -> int:
    return sum(len(key.encode()) + len(value) for key, value in sealed.annotations)

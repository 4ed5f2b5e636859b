"""Forgery: what Encrypt never answered, made from what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen


if TYPE_CHECKING:
    import random

    from kms_conformance.connection import Sealed


FOREIGN_ANNOTATION: Final = ("a.kms-conformance.example", b"kit")
"""An annotation that no plugin has made."""


_FIRST_PRINTABLE: Final = 0x20
_LAST_PRINTABLE: Final = 0x7E

_KEPT_AT_END: Final = 4
"""Base64 decodes four characters together, and not all bits of the last four count."""


@frozen
class Forgery:
    """A Decrypt that is not what Encrypt answered.

    Attributes:
        sent: What it is, in a few words.
        sealed: What is sent.
    """

    sent: str
    sealed: Sealed


def inverted(sealed: Sealed, position: int) -> Forgery:
    """Return *sealed* with one byte of its ciphertext inverted."""
    length = len(sealed.ciphertext)
    changed = bytearray(sealed.ciphertext)
    changed[position] ^= 0xFF
    sent = f"byte {position} of {length} inverted"
    return Forgery(sent, evolve(sealed, ciphertext=bytes(changed)))


def respelled(
    sealed: Sealed, position: int, source: random.Random
) -> tuple[Forgery, ...]:
    """Return *sealed* with one character of its text replaced by another of its own.

    A ciphertext that is text, such as Base64, is no text any more once a byte was
    inverted: its decoder would refuse what its cipher might not. None if it is bytes.
    """
    whole = sealed.ciphertext
    others = sorted(_letters(whole) - {whole[position]})
    if not others or not whole[position : position + 1].isalnum():
        return ()
    changed = bytearray(whole)
    changed[position] = source.choice(others)
    sent = f"character {position} of {len(whole)} replaced"
    return (Forgery(sent, evolve(sealed, ciphertext=bytes(changed))),)


def shortened(sealed: Sealed) -> tuple[Forgery, ...]:
    """Return *sealed* without its last byte, its second half, and any byte."""
    whole = sealed.ciphertext
    return tuple(
        Forgery(sent, evolve(sealed, ciphertext=whole[:length]))
        for sent, length in (
            (f"{len(whole) - 1} of {len(whole)} bytes", len(whole) - 1),
            (f"{len(whole) // 2} of {len(whole)} bytes", len(whole) // 2),
            ("an empty ciphertext", 0),
        )
    )


def lengthened(sealed: Sealed) -> tuple[Forgery, ...]:
    """Return *sealed* with a byte more: one that a text might end with, and another."""
    return tuple(
        Forgery(
            f"a byte 0x{more.hex()} appended",
            evolve(sealed, ciphertext=sealed.ciphertext + more),
        )
        for more in (b"\x00", b"\n", b"\xa5")
    )


def random_bytes(sealed: Sealed, length: int, source: random.Random) -> Forgery:
    """Return *sealed* with *length* random bytes for a ciphertext."""
    sent = f"{length} random bytes"
    return Forgery(sent, evolve(sealed, ciphertext=source.randbytes(length)))


def random_text(sealed: Sealed, source: random.Random) -> tuple[Forgery, ...]:
    """Return *sealed* with random text in its own letters; none if it is bytes.

    What is no letter or digit stays, and so does the end: both may have to be right
    for a decoder of text.
    """
    letters = sorted(_letters(sealed.ciphertext))
    if not letters:
        return ()
    head, end = sealed.ciphertext[:-_KEPT_AT_END], sealed.ciphertext[-_KEPT_AT_END:]
    text = bytes(
        source.choice(letters) if bytes([one]).isalnum() else one for one in head
    )
    sent = f"{len(text + end)} bytes of random text"
    return (Forgery(sent, evolve(sealed, ciphertext=text + end)),)


def renamed(sealed: Sealed) -> tuple[Forgery, ...]:
    """Return *sealed* with names that are nearly its key_id."""
    key_id = sealed.key_id
    names = {
        "a key_id and a letter more": f"{key_id}x",
        "a key_id without its last letter": key_id[:-1],
        "a key_id in the other case": key_id.swapcase(),
    }
    return tuple(
        Forgery(sent, evolve(sealed, key_id=name))
        for sent, name in names.items()
        if name not in ("", key_id)
    )


def with_annotations_changed(sealed: Sealed) -> tuple[Forgery, ...]:
    """Return *sealed* once for each annotation, with that one's value changed."""
    forgeries = []
    for place, (key, value) in enumerate(sealed.annotations):
        changed = value[:-1] + bytes([value[-1] ^ 0xFF]) if value else b"kit"
        pairs = list(sealed.annotations)
        pairs[place] = (key, changed)
        forgery = evolve(sealed, annotations=tuple(pairs))
        forgeries.append(Forgery(f"annotation {key!r} changed", forgery))
    return tuple(forgeries)


def with_foreign_annotation(sealed: Sealed) -> Forgery:
    """Return *sealed* with an annotation that the plugin did not make."""
    pairs = tuple(sorted((*sealed.annotations, FOREIGN_ANNOTATION)))
    key, _ = FOREIGN_ANNOTATION
    return Forgery(f"annotation {key!r} added", evolve(sealed, annotations=pairs))


def of_every_kind(
    sealed: Sealed, other: Sealed, source: random.Random
) -> tuple[Forgery, ...]:
    """Return the forgeries of checks D04 to D14, a few of each.

    Args:
        sealed: What Encrypt answered.
        other: What it answered to another seed.
        source: Randomness.
    """
    length = len(sealed.ciphertext)
    places = sorted({0, length // 4, length // 2, 3 * length // 4, length - 1})
    annotations = (
        *with_annotations_changed(sealed),
        with_foreign_annotation(sealed),
        Forgery("annotations removed", evolve(sealed, annotations=())),
        Forgery(
            "annotations of another seed",
            evolve(sealed, annotations=other.annotations),
        ),
    )
    return (
        Forgery("an unknown key_id", evolve(sealed, key_id="kit:unknown")),
        Forgery("an empty key_id", evolve(sealed, key_id="")),
        *(inverted(sealed, place) for place in places),
        *shortened(sealed),
        *lengthened(sealed),
        random_bytes(sealed, length, source),
        *(one for one in annotations if one.sealed != sealed),
        random_bytes(sealed, 1024, source),
    )


def _letters(ciphertext: bytes) -> set[int]:
    """Return the letters and digits of a ciphertext that is text; none of bytes."""
    if not all(_FIRST_PRINTABLE <= byte <= _LAST_PRINTABLE for byte in ciphertext):
        return set()
    return {byte for byte in ciphertext if bytes([byte]).isalnum()}

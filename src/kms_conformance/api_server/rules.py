"""What kube-apiserver accepts of a plugin's answers (contract, section 1).

Each function returns the problems that kube-apiserver would log, in words of ours;
none means that the answer is accepted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.stored import SOURCE_TYPES


if TYPE_CHECKING:
    from collections.abc import Iterable

    from kms_conformance.api_server.stored import EncryptedObject
    from kms_conformance.connection import Sealed, StatusAnswer


VERSIONS: Final = ("v2", "v2beta1")
"""What Status may call its version, from 1.29 on (``cfg`` 491)."""

HEALTHY: Final = "ok"
MAX_KEY_ID_BYTES: Final = 1024
MAX_CIPHERTEXT_BYTES: Final = 1024
MAX_ANNOTATIONS_BYTES: Final = 32_768

_MAX_NAME_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_MIN_LABELS: Final = 2


def version_problems(version: str) -> tuple[str, ...]:
    """Judge the version of Status (``cfg`` 491)."""
    return () if version in VERSIONS else (f"version is {version!r}, not 'v2'",)


def healthz_problems(healthz: str) -> tuple[str, ...]:
    """Judge the healthz of Status (``cfg`` 488)."""
    return () if healthz == HEALTHY else (f"healthz is {healthz!r}, not 'ok'",)


def key_id_problems(key_id: str) -> tuple[str, ...]:
    """Judge the length of a key_id, in bytes of UTF-8 (``env`` 477-488)."""
    length = len(key_id.encode())
    if length == 0:
        return ("key_id is empty",)
    if length > MAX_KEY_ID_BYTES:
        return (f"key_id has {length} bytes, over {MAX_KEY_ID_BYTES}",)
    return ()


def status_problems(answer: StatusAnswer) -> tuple[str, ...]:
    """Judge version, healthz and key_id (``cfg`` 486-516)."""
    return (
        *healthz_problems(answer.healthz),
        *version_problems(answer.version),
        *key_id_problems(answer.key_id),
    )


def ciphertext_problems(ciphertext: bytes) -> tuple[str, ...]:
    """Judge the length of a sealed seed (``env`` 449-457)."""
    length = len(ciphertext)
    if length == 0:
        return ("the ciphertext is empty",)
    if length > MAX_CIPHERTEXT_BYTES:
        return (f"the ciphertext has {length} bytes, over {MAX_CIPHERTEXT_BYTES}",)
    return ()


def annotation_key_problems(
    annotations: Iterable[tuple[str, bytes]],
) -> tuple[str, ...]:
    """Judge the keys of annotations (``env`` 462-470)."""
    return tuple(
        f"annotation key {key!r} is no domain name of two labels"
        for key, _ in annotations
        if not is_domain_name(key)
    )


def annotation_size_problems(
    annotations: Iterable[tuple[str, bytes]],
) -> tuple[str, ...]:
    """Judge the size of all annotations together (``env`` 471)."""
    total = sum(len(key.encode()) + len(value) for key, value in annotations)
    if total > MAX_ANNOTATIONS_BYTES:
        return (f"the annotations have {total} bytes, over {MAX_ANNOTATIONS_BYTES}",)
    return ()


def sealed_problems(sealed: Sealed) -> tuple[str, ...]:
    """Judge an answer of Encrypt, or what is stored of it (``env`` 446-488)."""
    return (
        *ciphertext_problems(sealed.ciphertext),
        *key_id_problems(sealed.key_id),
        *annotation_key_problems(sealed.annotations),
        *annotation_size_problems(sealed.annotations),
    )


def stored_problems(stored: EncryptedObject) -> tuple[str, ...]:
    """Judge a stored value, as is done before Decrypt is called (``env`` 421-444)."""
    problems = sealed_problems(stored.sealed)
    if not stored.data:
        problems = ("the encrypted data is empty", *problems)
    if stored.source_type not in SOURCE_TYPES:
        problems = (f"source type {stored.source_type} is unknown", *problems)
    return problems


def is_domain_name(name: str) -> bool:
    """Return whether *name* is a fully qualified domain name (contract 1.4)."""
    # one trailing dot is allowed, and not counted
    name = name.removesuffix(".")
    labels = name.split(".")
    return (
        len(name) <= _MAX_NAME_CHARS
        and len(labels) >= _MIN_LABELS
        and all(
            len(label) <= _MAX_LABEL_CHARS and _LABEL.fullmatch(label)
            for label in labels
        )
    )

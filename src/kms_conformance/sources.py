"""The tags that stand in the Source line of a check, and what each names."""

from __future__ import annotations

import re
from typing import Final


_APISERVER: Final = "kubernetes/apiserver"
_ENVELOPE: Final = "pkg/storage/value/encrypt/envelope"
_READ_AT: Final = "(master 24a394e5, 2026-07-23)"
_KMS_READ_AT: Final = "(master 7dc88c04, 2026-07-22)"
_OPTIONS: Final = "pkg/server/options/encryptionconfig"
_INTEGRATION: Final = "test/integration/controlplane/transformation"

SOURCES: Final[tuple[tuple[str, str], ...]] = (
    ("cfg", f"{_APISERVER} {_OPTIONS}/config.go {_READ_AT}"),
    ("env", f"{_APISERVER} {_ENVELOPE}/kmsv2/envelope.go {_READ_AT}"),
    ("grpc", f"{_APISERVER} {_ENVELOPE}/kmsv2/grpc_service.go {_READ_AT}"),
    ("cache", f"{_APISERVER} {_ENVELOPE}/kmsv2/cache.go {_READ_AT}"),
    ("ctl", f"{_APISERVER} {_OPTIONS}/controller/controller.go {_READ_AT}"),
    ("v1", f"{_APISERVER} {_ENVELOPE}/grpc_service.go {_READ_AT}"),
    ("mock", f"{_APISERVER} {_ENVELOPE}/testing/v2/kms_plugin_mock.go {_READ_AT}"),
    ("unit", f"{_APISERVER}, the unit tests beside these files {_READ_AT}"),
    ("proto", f"kubernetes/kms apis/v2/api.proto {_KMS_READ_AT}"),
    ("kmslib", f"kubernetes/kms pkg/service, pkg/util/util.go {_KMS_READ_AT}"),
    ("ref", "kubernetes/kms internal/plugins/_mock/pkcs11/pkcs11.go"),
    ("hier", "kubernetes/kms pkg/hierarchy/hierarchy.go, before commit 2f8ea38"),
    ("KEP", "kubernetes/enhancements keps/sig-auth/3299-kms-v2-improvements"),
    ("docs", "kubernetes.io, Using a KMS provider for data encryption (1.29, later)"),
    ("itest", f"kubernetes/kubernetes {_INTEGRATION}/kmsv2_transformation_test.go"),
    ("grpc-go", "grpc/grpc-go (4793ad04, 2026-08-22)"),
    ("contract", "docs/reference/kms-v2-contract.md of this project"),
)
"""Tag and what it names; the same tags as in docs/reference/kms-v2-contract.md."""

_TAG: Final = re.compile(r"`([^`]+)`")


def tags(source: str) -> tuple[str, ...]:
    """Return the tags that stand in backquotes in a Source line."""
    return tuple(_TAG.findall(source))


def explained(source: str) -> tuple[tuple[str, str], ...]:
    """Return the tags of a Source line with what each names."""
    found = tags(source)
    return tuple(pair for pair in SOURCES if pair[0] in found)

"""KMS v1beta1, as far as group V asks for it: three calls on any connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from kms_conformance.outcome import CallFailed
from kms_conformance.protos import message_classes


if TYPE_CHECKING:
    from kms_conformance.connection import Connection


API_VERSION: Final = "v1beta1"
SERVICE: Final = f"{API_VERSION}.KeyManagementService"
VERSION_METHOD: Final = f"/{SERVICE}/Version"
ENCRYPT_METHOD: Final = f"/{SERVICE}/Encrypt"
DECRYPT_METHOD: Final = f"/{SERVICE}/Decrypt"

MESSAGES: Final = message_classes(
    API_VERSION,
    """
VersionRequest: string version = 1
VersionResponse: string version = 1; string runtime_name = 2; string runtime_version = 3
EncryptRequest: string version = 1; bytes plain = 2
EncryptResponse: bytes cipher = 1
DecryptRequest: string version = 1; bytes cipher = 2
DecryptResponse: bytes plain = 1
""",
)
"""The classes of its messages, by name (``proto``)."""


async def version(plugin: Connection) -> str:
    """Return the version that Version answers.

    Raises:
        CallFailed: It was not answered, or with bytes that are no VersionResponse.
    """
    return str((await _called(plugin, VERSION_METHOD, "Version")).version)


async def encrypt(plugin: Connection, plain: bytes) -> bytes:
    """Have *plain* sealed; errors as of ``version``."""
    answer = await _called(plugin, ENCRYPT_METHOD, "Encrypt", plain=plain)
    return bytes(answer.cipher)


async def decrypt(plugin: Connection, cipher: bytes) -> bytes:
    """Have *cipher* opened; errors as of ``version``."""
    answer = await _called(plugin, DECRYPT_METHOD, "Decrypt", cipher=cipher)
    return bytes(answer.plain)


async def _called(plugin: Connection, path: str, name: str, **content: bytes) -> Any:
    request = MESSAGES[f"{name}Request"](version=API_VERSION, **content)
    came = await plugin.raw(path, request.SerializeToString())
    try:
        return MESSAGES[f"{name}Response"].FromString(came)
    # The pure Python protobuf raises ValueError for strings that are not UTF-8.
    except (DecodeError, ValueError):
        raise CallFailed(path, "OK", "the answer is no v1beta1 message") from None

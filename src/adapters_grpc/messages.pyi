from collections.abc import Mapping, MutableMapping
from typing import Final

from google.protobuf.message import Message

SERVICE: Final = "v2.KeyManagementService"
STATUS_METHOD: Final[str]
ENCRYPT_METHOD: Final[str]
DECRYPT_METHOD: Final[str]

class StatusRequest(Message):
    def __init__(self) -> None: ...

class StatusResponse(Message):
    version: str
    healthz: str
    key_id: str
    def __init__(
        self, *, version: str = ..., healthz: str = ..., key_id: str = ...
    ) -> None: ...

class EncryptRequest(Message):
    plaintext: bytes
    uid: str
    def __init__(self, *, plaintext: bytes = ..., uid: str = ...) -> None: ...

class EncryptResponse(Message):
    ciphertext: bytes
    key_id: str
    @property
    def annotations(self) -> MutableMapping[str, bytes]: ...
    def __init__(
        self,
        *,
        ciphertext: bytes = ...,
        key_id: str = ...,
        annotations: Mapping[str, bytes] = ...,
    ) -> None: ...

class DecryptRequest(Message):
    ciphertext: bytes
    uid: str
    key_id: str
    @property
    def annotations(self) -> MutableMapping[str, bytes]: ...
    def __init__(
        self,
        *,
        ciphertext: bytes = ...,
        uid: str = ...,
        key_id: str = ...,
        annotations: Mapping[str, bytes] = ...,
    ) -> None: ...

class DecryptResponse(Message):
    plaintext: bytes
    def __init__(self, *, plaintext: bytes = ...) -> None: ...

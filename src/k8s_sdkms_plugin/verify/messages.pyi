from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from google.protobuf.message import Message

RANGE_METHOD: Final[str]

class KeyValue(Message):
    key: bytes
    mod_revision: int
    value: bytes
    def __init__(
        self, *, key: bytes = ..., mod_revision: int = ..., value: bytes = ...
    ) -> None: ...

class ResponseHeader(Message):
    revision: int

class RangeRequest(Message):
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        limit: int = ...,
        revision: int = ...,
    ) -> None: ...

class RangeResponse(Message):
    more: bool
    def __init__(self, *, more: bool = ...) -> None: ...
    @property
    def header(self) -> ResponseHeader: ...
    @property
    def kvs(self) -> Sequence[KeyValue]: ...

class EncryptedObject(Message):
    encryptedData: bytes
    keyID: str
    encryptedDEKSource: bytes
    encryptedDEKSourceType: int
    @property
    def annotations(self) -> MutableMapping[str, bytes]: ...
    def __init__(
        self,
        *,
        encryptedData: bytes = ...,
        keyID: str = ...,
        encryptedDEKSource: bytes = ...,
        annotations: Mapping[str, bytes] = ...,
        encryptedDEKSourceType: int = ...,
    ) -> None: ...

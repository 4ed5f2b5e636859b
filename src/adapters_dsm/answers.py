"""DSM's answers, and the strict checks that each must pass before it is used.

Unknown fields are ignored, as DSM's API asks of its clients; what we do use must have
the very type, length and encoding that the API describes. No text from an answer gets
into an error.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from typing import Any, Final, TypeVar

import attrs
import cattrs
from attrs import frozen
from cattrs.gen import make_dict_structure_fn

from adapters_dsm.settings import MAX_CREDENTIAL_CHARS
from adapters_dsm.sobjects import Sobject, describe
from kms_core.errors import ProviderAnswerRefused
from kms_core.provider import Ciphertext, KeyDescription


T = TypeVar("T")

TAG_BYTES: Final = 16
"""Length of a GCM tag; we ask for ``tag_len`` 128."""

IV_BYTES: Final = range(8, 65)
"""Lengths of a nonce that we take. DSM's is 12 bytes, but no source says so."""

MAX_EXPIRES_IN_S: Final = 24 * 3600
"""Longest idle time of a session that we believe, in seconds."""

_MIN_BYTES_TO_COMPARE = 16
_TOKEN = re.compile(rf"[!-~]{{1,{MAX_CREDENTIAL_CHARS}}}")


@frozen
class Answer:
    """An HTTP answer, read to its end.

    Attributes:
        status: HTTP status.
        content_type: Media type in lower case without parameters; may be empty.
        retry_after: ``Retry-After`` as it came, or None.
        request_id: ``X-Request-Id`` if it is fit for a log, otherwise empty.
        body: The content, at most as long as the transport takes; empty for an error
            whose body could not be read.
    """

    status: int
    content_type: str
    retry_after: str | None
    request_id: str
    body: bytes


@frozen
class Login:
    """What a login gives.

    Attributes:
        authorization: Value of the Authorization header for later calls; a secret.
        expires_in_s: After how many idle seconds DSM forgets the session.
    """

    authorization: str = attrs.field(repr=False)
    expires_in_s: int


@frozen
class _AuthResponse:
    access_token: str
    expires_in: int
    token_type: str | None = None


@frozen
class _EncryptResponse:
    kid: str
    cipher: str
    iv: str
    tag: str


@frozen
class _DecryptResponse:
    plain: str
    kid: str | None = None


def _exactly(kind: type[T]) -> Any:
    # cattrs' own hooks convert: they would make "1" of 1 and True of "no".
    def take(value: object, _: object) -> T:
        if type(value) is not kind:
            raise TypeError
        return value

    return take


def _texts(value: object, _: object) -> tuple[str, ...]:
    if type(value) is not list or any(type(item) is not str for item in value):
        raise TypeError
    return tuple(value)


def _from_object(kind: type[Any]) -> Any:
    fill = make_dict_structure_fn(kind, _converter, _cattrs_detailed_validation=False)

    def take(value: object, _: object) -> Any:
        # A class of optional fields alone would be made of any list or text.
        if type(value) is not dict:
            raise TypeError
        return fill(value, kind)

    return take


_converter = cattrs.Converter(detailed_validation=False)
_converter.register_structure_hook(str, _exactly(str))
_converter.register_structure_hook(int, _exactly(int))
_converter.register_structure_hook(bool, _exactly(bool))
_converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _texts)
_converter.register_structure_hook_factory(attrs.has, _from_object)


def _structure(answer: Answer, form: type[T], where: str) -> T:
    # Raised outside of the except blocks: what is caught there holds the whole answer,
    # and would stay reachable as the context of what is raised.
    content: object = None
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(answer.body.decode("utf-8"))
    if type(content) is not dict:
        raise ProviderAnswerRefused(f"{where}: the answer is not a JSON object")
    found: T | None = None
    # cattrs raises what its hooks meet.
    with contextlib.suppress(Exception):
        found = _converter.structure(content, form)
    if found is None:
        raise ProviderAnswerRefused(
            f"{where}: the answer lacks a field, or one has the wrong type"
        )
    return found


def read_login(answer: Answer, where: str) -> Login:
    """Return the session that DSM opened.

    Raises:
        ProviderAnswerRefused: The token could not be sent back, or is no bearer token.
    """
    response = _structure(answer, _AuthResponse, where)
    # DSM's default.
    if (response.token_type or "bearer").lower() != "bearer":
        raise ProviderAnswerRefused(f"{where}: the session is not of type Bearer")
    if not _TOKEN.fullmatch(response.access_token):
        raise ProviderAnswerRefused(f"{where}: the token is not fit for a header")
    # A wrong figure costs a login more or a refused call more, so it is only bounded.
    expires_in_s = min(max(response.expires_in, 1), MAX_EXPIRES_IN_S)
    return Login(f"Bearer {response.access_token}", expires_in_s)


def read_key(answer: Answer, asked: str | None, where: str) -> KeyDescription:
    """Return what DSM says of a key.

    Args:
        answer: The answer to keys/info.
        asked: The kid asked for, in lower case; None if a name was.
        where: For error texts.

    Raises:
        ProviderAnswerRefused: It is another key, or its fields make no sense.
    """
    key = describe(_structure(answer, Sobject, where), where)
    if asked is not None and key.kid != asked:
        raise ProviderAnswerRefused(f"{where}: the answer is about another key")
    return key


def read_ciphertext(
    answer: Answer, kid: str, plaintext: bytes, where: str
) -> Ciphertext:
    """Return what DSM made of *plaintext*.

    Raises:
        ProviderAnswerRefused: Another key made it, or it can't be AES-GCM of that
            plaintext.
    """
    response = _structure(answer, _EncryptResponse, where)
    if response.kid.lower() != kid:
        raise ProviderAnswerRefused(f"{where}: another key than asked for was used")
    cipher = _bytes(response.cipher, where)
    iv = _bytes(response.iv, where)
    tag = _bytes(response.tag, where)
    if len(cipher) != len(plaintext):
        raise ProviderAnswerRefused(f"{where}: the ciphertext's length is wrong")
    # Of very short plaintexts a good cipher maps some to themselves.
    if len(plaintext) >= _MIN_BYTES_TO_COMPARE and cipher == plaintext:
        raise ProviderAnswerRefused(f"{where}: the plaintext was not encrypted")
    if len(tag) != TAG_BYTES:
        raise ProviderAnswerRefused(f"{where}: the tag's length is wrong")
    if len(iv) not in IV_BYTES:
        raise ProviderAnswerRefused(f"{where}: the nonce's length is wrong")
    return Ciphertext(cipher, iv, tag)


def read_plaintext(answer: Answer, kid: str, length: int, where: str) -> bytes:
    """Return what DSM opened.

    Args:
        answer: The answer to decrypt.
        kid: The kid asked for, in lower case.
        length: Length of the ciphertext in bytes.
        where: For error texts.

    Raises:
        ProviderAnswerRefused: Another key opened it, or the length is wrong.
    """
    response = _structure(answer, _DecryptResponse, where)
    if response.kid is not None and response.kid.lower() != kid:
        raise ProviderAnswerRefused(f"{where}: another key than asked for was used")
    plain = _bytes(response.plain, where)
    if len(plain) != length:
        raise ProviderAnswerRefused(f"{where}: the plaintext's length is wrong")
    return plain


def _bytes(text: str, where: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = None
    # b64decode lets stray bits in the last character pass.
    if found is None or base64.b64encode(found).decode("ascii") != text:
        raise ProviderAnswerRefused(f"{where}: a field is not proper base64")
    return found

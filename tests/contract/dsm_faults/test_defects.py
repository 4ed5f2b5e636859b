"""Every response defect of the reference's point 27: refused, and it heals."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.contract.dsm_faults.support import WELL
from tests.unit.adapters_dsm.support import Asked, http

from dsm_emulator import Fault, FaultKind


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.dsm_faults.support import Front, TinyDsm
    from tests.unit.adapters_dsm.support import Emulated


ENCRYPT = "/crypto/v1/encrypt"
DECRYPT = "/crypto/v1/decrypt"
INFO = "/crypto/v1/keys/info"
LOGIN = "/sys/v1/session/auth"
REFUSED = "DSM-ANSWER-REFUSED"


def of_size(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()


def dropped(field: str) -> dict[str, Any]:
    return {"kind": FaultKind.DROP_FIELD, "field": field}


def changed(field: str, value: object) -> dict[str, Any]:
    return {"kind": FaultKind.SET_FIELD, "field": field, "value": value}


def status(code: int, **more: Any) -> dict[str, Any]:
    return {"kind": FaultKind.STATUS, "status": code, **more}


ANYWHERE: Final = {
    "invalid JSON": {"kind": FaultKind.NOT_JSON},
    "truncated JSON": {"kind": FaultKind.TRUNCATED_JSON},
    "200 with error text": status(200, text="sobject is not enabled"),
    "200 with an error as JSON": status(200, body="json", text="not enabled"),
    "200 with a page": status(200, body="html"),
    "200 without a body": status(200, body="empty"),
    "204": status(204),
    "201": status(201),
    "a very large body": {"kind": FaultKind.HUGE_BODY, "size": 1_000_000},
    "null as kid": changed("kid", None),
    "an odd kid": changed("kid", "not-a-uuid"),
}
IN_ENCRYPT: Final = ANYWHERE | {
    "no kid": dropped("kid"),
    "no iv": dropped("iv"),
    "no tag": dropped("tag"),
    "no cipher": dropped("cipher"),
    "wrong kid": {"kind": FaultKind.WRONG_KID},
    # Of the right form, and not what was used: it does not open.
    "IV of 16 bytes": changed("iv", of_size(16)),
    "another IV": changed("iv", of_size(12)),
    "another tag": changed("tag", of_size(16)),
    "another ciphertext": changed("cipher", of_size(32)),
    "tag of 12 bytes": changed("tag", of_size(12)),
    "IV of no bytes": changed("iv", ""),
    "cipher of 31 bytes": changed("cipher", of_size(31)),
    "url-safe base64": changed("cipher", "_" * 42 + "8="),
    "unpadded base64": changed("tag", of_size(16).rstrip("=")),
}
IN_DECRYPT: Final = {k: v for k, v in ANYWHERE.items() if k != "null as kid"} | {
    "no plain": dropped("plain"),
    "wrong kid": {"kind": FaultKind.WRONG_KID},
    "plain of 31 bytes": changed("plain", of_size(31)),
    "plain of 33 bytes": changed("plain", of_size(33)),
    "plain of no bytes": changed("plain", ""),
    "plain as a number": changed("plain", 5),
    "plain in hex": changed("plain", "00" * 32),
}
IN_INFO: Final = {k: v for k, v in ANYWHERE.items() if k != "204"} | {
    "no kid": dropped("kid"),
    "no operations": dropped("key_ops"),
    "enabled as a text": changed("enabled", "false"),
    "a state of tomorrow": changed("state", "Suspended"),
    "odd links": changed("links", {"replaced": "x"}),
}
IN_LOGIN: Final = {
    k: v for k, v in ANYWHERE.items() if "kid" not in k and k not in ("204", "201")
} | {
    "no token": dropped("access_token"),
    "a token with a line break": changed("access_token", "a\r\nX-Forged: b"),
    "a cookie": changed("token_type", "Cookie"),
    "no expiry": dropped("expires_in"),
    "an expiry as a text": changed("expires_in", "600"),
}


@pytest.mark.parametrize("name", IN_ENCRYPT)
async def test_encrypt(front: Front, emulated: Emulated, name: str) -> None:
    seed = front.seed()
    emulated.dsm.faults.add(Fault(path=ENCRYPT, **IN_ENCRYPT[name]))
    # Whatever form it has: a sealed seed is opened again before it is given out.
    assert await front.outcome(front.encrypt(seed)) == REFUSED
    emulated.dsm.faults.clear()
    assert await front.decrypt(await front.encrypt(seed)) == seed


@pytest.mark.parametrize("name", IN_DECRYPT)
async def test_decrypt(front: Front, emulated: Emulated, name: str) -> None:
    seed = front.seed()
    sealed = await front.encrypt(seed)
    emulated.dsm.faults.add(Fault(path=DECRYPT, **IN_DECRYPT[name]))
    assert await front.outcome(front.decrypt(sealed)) == REFUSED
    # Encrypt opens what it made, and so meets the same.
    assert await front.outcome(front.encrypt(seed)) == REFUSED
    emulated.dsm.faults.clear()
    assert await front.decrypt(sealed) == seed


@pytest.mark.parametrize("name", IN_INFO)
async def test_look(front: Front, emulated: Emulated, name: str) -> None:
    emulated.dsm.faults.add(Fault(path=INFO, **IN_INFO[name]))
    assert await front.outcome(front.adapter_describe(None)) == REFUSED
    emulated.dsm.faults.clear()
    assert (await front.adapter_describe(None)).kid == emulated.kid


@pytest.mark.parametrize("name", IN_LOGIN)
async def test_login(front: Front, emulated: Emulated, name: str) -> None:
    seed = front.seed()
    sealed = await front.encrypt(seed)
    emulated.dsm.kill_sessions()
    emulated.dsm.faults.add(Fault(path=LOGIN, **IN_LOGIN[name]))
    assert await front.outcome(front.decrypt(sealed)) == REFUSED
    emulated.dsm.faults.clear()
    # An answer that makes no sense says nothing about the API key.
    assert await front.decrypt(sealed) == seed
    assert not emulated.dsm.journal.failed_logins.get(emulated.demo.app.app_id)


async def test_plaintext_that_is_another_one_is_never_sealed(
    front: Front, emulated: Emulated
) -> None:
    seed = front.seed()
    other = base64.b64encode(bytes(32)).decode()
    emulated.dsm.faults.add(Fault(path=DECRYPT, **changed("plain", other)))
    assert await front.outcome(front.encrypt(seed)) == REFUSED


def compressed(good: bytes) -> bytes:
    content = gzip.compress(good.partition(b"\r\n\r\n")[2])
    return http(body=content, headers={"Content-Encoding": "gzip"})


def body_of(good: bytes) -> Any:
    return json.loads(good.partition(b"\r\n\r\n")[2])


ENCODINGS: Final[dict[str, tuple[Callable[[bytes], bytes], str]]] = {
    "gzip": (compressed, REFUSED),
    "gzip unsaid": (
        lambda good: http(body=gzip.compress(good.partition(b"\r\n\r\n")[2])),
        REFUSED,
    ),
    "deflate said": (
        lambda good: http(body=body_of(good), headers={"Content-Encoding": "deflate"}),
        REFUSED,
    ),
    "identity said": (
        lambda good: http(body=body_of(good), headers={"Content-Encoding": "identity"}),
        WELL,
    ),
    "UTF-16": (
        lambda good: http(body=json.dumps(body_of(good)).encode("utf-16")),
        REFUSED,
    ),
    "a byte order mark": (
        lambda good: http(body=b"\xef\xbb\xbf" + json.dumps(body_of(good)).encode()),
        REFUSED,
    ),
    "Latin-1": (
        lambda good: http(
            body=json.dumps(body_of(good) | {"x": "\u00e4"}, ensure_ascii=False).encode(
                "latin-1"
            )
        ),
        REFUSED,
    ),
    "two objects": (
        lambda good: http(body=json.dumps(body_of(good)).encode() * 2),
        REFUSED,
    ),
    "an array": (lambda good: http(body=[body_of(good)]), REFUSED),
    "a string": (lambda good: http(body=json.dumps(body_of(good))), REFUSED),
    "deep nesting": (lambda _: http(body=b"[" * 100_000), REFUSED),
    "a huge number": (
        lambda good: http(
            body=json.dumps(body_of(good)).encode()[:-1] + b', "n": ' + b"9" * 5000
        ),
        REFUSED,
    ),
    "spaces and unknown fields": (
        lambda good: http(
            body=b"\r\n\t " + json.dumps({"x": [{}]} | body_of(good), indent=4).encode()
        ),
        WELL,
    ),
    "no content type": (
        lambda good: good.replace(b"Content-Type: application/json\r\n", b""),
        WELL,
    ),
    "another content type": (
        lambda good: good.replace(b"application/json", b"text/html; charset=x"),
        WELL,
    ),
}


@pytest.mark.parametrize("path", ["/encrypt", "/decrypt"])
@pytest.mark.parametrize("name", ENCODINGS)
async def test_encoding(raw_front: Front, tiny: TinyDsm, name: str, path: str) -> None:
    change, expected = ENCODINGS[name]
    seed = raw_front.seed()
    sealed = await raw_front.encrypt(seed)

    async def spoil(asked: Asked, good: bytes) -> None:
        asked.send(change(good))

    tiny.path, tiny.spoil = path, spoil
    call = raw_front.encrypt(seed) if path == "/encrypt" else raw_front.decrypt(sealed)
    assert await raw_front.outcome(call) == expected
    tiny.spoil = None
    assert await raw_front.decrypt(sealed) == seed

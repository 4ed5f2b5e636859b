"""Whatever DSM answers: the right bytes or an error of the family, nothing else."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gzip
import json
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.adapters_dsm.support import (
    IV,
    KID,
    SEED,
    TAG,
    Adapters,
    Asked,
    RawServer,
    SkippingClock,
    http,
    sobject,
    way_of,
)

from adapters_dsm.answers import Answer
from kms_core.errors import KmsError, ProviderError, SealedSeedNotAuthentic
from kms_core.key_findings import key_findings
from kms_core.provider import Ciphertext, KeyDescription


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import httpx
    import trustme


T = TypeVar("T")

CIPHER = bytes(reversed(range(32)))
SEALED = Ciphertext(CIPHER, IV, TAG)
GOOD: dict[str, dict[str, object]] = {
    "auth": {
        "access_token": "t",
        "expires_in": 600,
        "token_type": "Bearer",
        "entity_id": KID,
    },
    "info": sobject(
        links={"replaced": KID, "replacement": None},
        effective_key_policy={"key_ops": ["ENCRYPT", "DECRYPT", "SIGN"]},
        deactivation_date="20270509T070912Z",
        scheduled_rotation="20260109T070912Z",
        rotation_policy={"interval_days": 30, "deactivate_rotated_key": True},
        compliant_with_policies=False,
    ),
    "encrypt": {
        "kid": KID,
        "cipher": base64.b64encode(CIPHER).decode(),
        "iv": base64.b64encode(IV).decode(),
        "tag": base64.b64encode(TAG).decode(),
    },
    "decrypt": {"kid": KID, "plain": base64.b64encode(SEED).decode()},
}

ODD_TEXTS = (
    *("", "=", "AAAA", KID, KID.upper(), "Active", "ENCRYPT", "20270509T070912Z"),
    *(
        "\x00",
        "\r\nX: y",
        "\ud800",
        "\u202e",
        "\u0664",
        "A" * 10_000,
        "99991231T235959Z",
    ),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from(ODD_TEXTS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def mutate(draw: st.DrawFn, value: object) -> object:
    """Return *value* with one thing in it changed, however deep."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        changed = dict(value)
        match draw(st.sampled_from(["in", "in", "drop", "rename", "add"])):
            case "in":
                changed[name] = mutate(draw, value[name])
            case "drop":
                del changed[name]
            case "rename":
                changed[name.upper()] = changed.pop(name)
            case _:
                changed[draw(st.text(max_size=5))] = draw(json_values)
        return changed
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], mutate(draw, value[at]), *value[at:]]
    if isinstance(value, str) and draw(st.booleans()):
        at = draw(st.integers(0, len(value)))
        return value[:at] + draw(st.text(max_size=3)) + value[at + 1 :]
    return draw(json_values)


def doubled(body: bytes) -> bytes:
    """Return an object that says everything twice."""
    return body[:-1] + b"," + body[1:] if len(body) > 2 else body


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16": lambda body: body.decode("utf-8").encode("utf-16"),
    "UTF-32": lambda body: body.decode("utf-8").encode("utf-32-be"),
    "a mark": lambda body: b"\xef\xbb\xbf" + body,
    "UTF-7": lambda body: body.decode("utf-8").encode("utf-7"),
    "gzip": gzip.compress,
    "twice": doubled,
    "nested": lambda body: b"[" * 2000 + body + b"]" * 2000,
    "a huge number": lambda body: body[:-1] + b',"n":' + b"9" * 9000 + b"}",
    "NaN": lambda body: body[:-1] + b',"n":NaN}',
}


@st.composite
def bodies(draw: st.DrawFn, good: dict[str, object]) -> bytes:
    content: object = good
    for _ in range(draw(st.integers(0, 2))):
        content = mutate(draw, content)
    body = json.dumps(content).encode()
    match draw(st.sampled_from(["whole"] * 4 + ["cut", "flip", "append", "encode"])):
        case "cut":
            return body[: draw(st.integers(0, len(body)))]
        case "flip":
            at = draw(st.integers(0, len(body) - 1))
            return body[:at] + draw(st.binary(max_size=2)) + body[at + 1 :]
        case "append":
            return body + draw(st.binary(max_size=5))
        case "encode":
            return ENCODINGS[draw(st.sampled_from(sorted(ENCODINGS)))](body)
    return body


@st.composite
def answers(draw: st.DrawFn, good: dict[str, object]) -> Answer:
    status = draw(st.sampled_from([200] * 9 + [201, 204, 302, 400, 401, 403, 404, 500]))
    kind = draw(st.sampled_from(["application/json", "text/html", ""]))
    wait = draw(st.sampled_from([None, "1", "x"]))
    return Answer(status, kind, wait, "", draw(bodies(good)))


class Mutated:
    """Stands in for Connections."""

    def __init__(self, by_path: dict[str, Answer]) -> None:
        self._by_path = by_path

    async def send(self, request: httpx.Request, **_: object) -> Answer:
        await asyncio.sleep(0)
        return self._by_path[request.url.path.rpartition("/")[2]]

    async def aclose(self) -> None:
        pass


async def outcome(call: Awaitable[T]) -> T | None:
    """Return what *call* returns; None for an error of the family, in one line.

    Nothing else may come out, and not later than it must: a call that ignores its
    deadline fails by the time-out here.
    """
    error: KmsError
    try:
        async with asyncio.timeout(30):
            return await call
    except (ProviderError, SealedSeedNotAuthentic) as raised:
        error = raised
    text = error.text()
    assert text.isprintable()
    assert len(text.encode()) <= 512
    assert base64.b64encode(SEED).decode()[:20] not in text
    return None


async def make_calls(by_path: dict[str, Answer], nowhere: Path) -> None:
    clock = SkippingClock()
    async with Adapters(nowhere, clock) as adapters:
        provider = adapters.open("https://dsm.test")
        way_of(provider)._connections = Mutated(by_path)  # type: ignore[assignment]
        check_key(await outcome(provider.describe(deadline=clock.in_s(3))))
        deadline = clock.in_s(3)
        check_sealed(
            await outcome(provider.encrypt(KID, SEED, None, deadline=deadline))
        )
        deadline = clock.in_s(3)
        opened = await outcome(provider.decrypt(KID, SEALED, None, deadline=deadline))
        check_opened(opened, by_path["decrypt"].body)


def check_key(found: KeyDescription | None) -> None:
    if found is None:
        return
    assert type(found) is KeyDescription
    assert found.kid.count("-") == 4
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for finding in key_findings(found, now, hides_rotation=True):
        assert finding.cause.isprintable()
        assert len(finding.cause.encode()) <= 512


def check_sealed(sealed: Ciphertext | None) -> None:
    if sealed is None:
        return
    assert len(sealed.cipher) == len(SEED)
    assert len(sealed.tag) == 16
    assert 8 <= len(sealed.iv) <= 64
    assert sealed.cipher != SEED


def check_opened(opened: bytes | None, body: bytes) -> None:
    if opened is None:
        return
    assert type(opened) is bytes
    assert len(opened) == len(SEED)
    # Not authenticated by us: DSM's word is all there is. But it is its word.
    assert base64.b64encode(opened) in body.replace(b"\\/", b"/")


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    auth=answers(GOOD["auth"]),
    info=answers(GOOD["info"]),
    encrypt=answers(GOOD["encrypt"]),
    decrypt=answers(GOOD["decrypt"]),
)
def test_mutated_contents(
    auth: Answer, info: Answer, encrypt: Answer, decrypt: Answer, tmp_path: Path
) -> None:
    by_path = {"auth": auth, "info": info, "encrypt": encrypt, "decrypt": decrypt}
    asyncio.run(
        make_calls({**by_path, "terminate": Answer(204, "", None, "", b"")}, tmp_path)
    )


PATHS = {"auth": "/session/auth", "info": "/keys/info", "decrypt": "/decrypt"}


@settings(
    max_examples=90,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_bytes_on_the_wire(
    data: st.DataObject, authority: trustme.CA, ca_file: Path
) -> None:
    name = data.draw(st.sampled_from(sorted(PATHS)))
    whole = http(body=GOOD[name], headers={"X-Request-Id": "a", "Retry-After": "1"})
    cuts = st.integers(0, len(whole))
    at, until_ = sorted([data.draw(cuts), data.draw(cuts)])
    raw = whole[:at] + data.draw(st.binary(max_size=8)) + whole[until_:]

    async def call() -> None:
        async def script(asked: Asked) -> None:
            if PATHS[name] in asked.path:
                asked.send(raw)
                asked.end()
            else:
                asked.send(http(body=GOOD[asked.path.rpartition("/")[2]]))

        clock = SkippingClock()
        async with (
            RawServer(script, authority, on_login=script) as server,
            Adapters(ca_file, clock) as adapters,
        ):
            provider = adapters.open(server.url)
            if name == "info":
                check_key(await outcome(provider.describe(deadline=clock.in_s(0.5))))
                return
            deadline = clock.in_s(0.5)
            decrypting = provider.decrypt(KID, SEALED, None, deadline=deadline)
            opened = await outcome(decrypting)
            check_opened(opened, raw if name == "decrypt" else whole_decrypt())

    asyncio.run(call())


def whole_decrypt() -> bytes:
    return json.dumps(GOOD["decrypt"]).encode()

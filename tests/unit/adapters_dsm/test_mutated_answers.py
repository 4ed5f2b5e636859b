"""Whatever DSM answers: the right bytes or an error of the family, nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

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
from kms_core.errors import ProviderError, SealedSeedNotAuthentic
from kms_core.provider import Ciphertext, KeyDescription


if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    import trustme


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
        effective_key_policy={"key_ops": ["ENCRYPT", "DECRYPT"]},
    ),
    "encrypt": {
        "kid": KID,
        "cipher": base64.b64encode(CIPHER).decode(),
        "iv": base64.b64encode(IV).decode(),
        "tag": base64.b64encode(TAG).decode(),
    },
    "decrypt": {"kid": KID, "plain": base64.b64encode(SEED).decode()},
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["", "=", "AAAA", KID, "Active", "ENCRYPT"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def bodies(draw: st.DrawFn, good: dict[str, object]) -> bytes:
    content = dict(good)
    for name in draw(st.sets(st.sampled_from(sorted(good)), max_size=2)):
        match draw(st.sampled_from(["drop", "replace", "damage", "rename"])):
            case "drop":
                del content[name]
            case "replace":
                content[name] = draw(json_values)
            case "damage":
                text = str(content[name])
                at = draw(st.integers(0, len(text)))
                content[name] = text[:at] + draw(st.text(max_size=3)) + text[at + 1 :]
            case _:
                content[name + " "] = content.pop(name)
    body = json.dumps(content).encode()
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "flip", "append"])):
        case "cut":
            return body[: draw(st.integers(0, len(body)))]
        case "flip":
            at = draw(st.integers(0, len(body) - 1))
            return body[:at] + draw(st.binary(max_size=2)) + body[at + 1 :]
        case "append":
            return body + draw(st.binary(max_size=5))
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


async def make_calls(by_path: dict[str, Answer], nowhere: Path) -> None:
    clock = SkippingClock()
    async with Adapters(nowhere, clock) as adapters:
        provider = adapters.open("https://dsm.test")
        way_of(provider)._connections = Mutated(by_path)  # type: ignore[assignment]
        try:
            found = await provider.describe(deadline=clock.in_s(3))
            assert type(found) is KeyDescription
            assert found.kid.count("-") == 4
        except ProviderError:
            pass
        try:
            sealed = await provider.encrypt(KID, SEED, None, deadline=clock.in_s(3))
            assert len(sealed.cipher) == len(SEED)
            assert len(sealed.tag) == 16
            assert 8 <= len(sealed.iv) <= 64
            assert sealed.cipher != SEED
        except ProviderError:
            pass
        try:
            opened = await provider.decrypt(KID, SEALED, None, deadline=clock.in_s(3))
            assert type(opened) is bytes
            assert len(opened) == len(SEED)
            answer = by_path["decrypt"]
            # Not authenticated by us: DSM's word is all there is. But it is its word.
            assert base64.b64encode(opened) in answer.body.replace(b"\\/", b"/")
        except (ProviderError, SealedSeedNotAuthentic):
            pass


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


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_bytes_on_the_wire(
    data: st.DataObject, authority: trustme.CA, ca_file: Path
) -> None:
    whole = http(body=GOOD["decrypt"], headers={"X-Request-Id": "a"})
    cuts = st.integers(0, len(whole))
    at, until_ = sorted([data.draw(cuts), data.draw(cuts)])
    raw = whole[:at] + data.draw(st.binary(max_size=8)) + whole[until_:]

    async def call() -> None:
        async def script(asked: Asked) -> None:
            asked.send(raw)
            asked.end()

        clock = SkippingClock()
        async with (
            RawServer(script, authority) as server,
            Adapters(ca_file, clock) as adapters,
        ):
            provider = adapters.open(server.url)
            try:
                found = await provider.decrypt(
                    KID, SEALED, None, deadline=clock.in_s(0.5)
                )
                assert len(found) == len(SEED)
            except (ProviderError, SealedSeedNotAuthentic):
                pass

    asyncio.run(call())

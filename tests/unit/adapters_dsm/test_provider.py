"""What goes to DSM, what is refused before it does, and what is told about it."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.unit.adapters_dsm.support import (
    API_KEY,
    IV,
    KID,
    SEED,
    TAG,
    Adapters,
    Asked,
    RawServer,
    connections_of,
    describe_ok,
    http,
    login,
    sobject,
)

from kms_core.errors import (
    KeyDestroyed,
    KeyNotFound,
    ProviderAnswerRefused,
    ProviderError,
    ProviderThrottling,
    ProviderTimeout,
    SealedSeedNotAuthentic,
)
from kms_core.events import Unexpected
from kms_core.ports import call_uid
from kms_core.provider import Ciphertext


if TYPE_CHECKING:
    import trustme
    from tests.unit.adapters_dsm.support import Emulated


CIPHER = bytes(reversed(range(32)))
SEALED = Ciphertext(CIPHER, IV, TAG)
INFO = "/crypto/v1/keys/info?view=json"
BY_KID = f"{INFO}&show_destroyed=true"


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def answer_well(asked: Asked) -> None:
    body: dict[str, object]
    match asked.path.rpartition("/")[2]:
        case "encrypt":
            body = {"kid": KID, "cipher": b64(CIPHER), "iv": b64(IV), "tag": b64(TAG)}
        case "decrypt":
            body = {"kid": KID, "plain": b64(SEED)}
        case _:
            body = sobject()
    asked.send(http(body=body, headers={"X-Request-Id": "req-7"}))


async def test_requests_are_what_dsm_expects(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        by_name = adapters.open(server.url + "/", name='a \u00e4 "key"')
        by_kid = adapters.open(server.url, kid=KID.upper())
        deadline = adapters.clock.in_s(5)
        await by_name.describe(deadline=deadline)
        await by_name.describe(KID, deadline=deadline)
        await by_kid.describe(deadline=deadline)
        await by_kid.encrypt(KID.upper(), SEED, b"aad", deadline=deadline)
        await by_kid.encrypt(KID, SEED, None, deadline=deadline)
        await by_kid.decrypt(KID.upper(), SEALED, b"aad", deadline=deadline)
        await by_kid.decrypt(KID, SEALED, b"", deadline=deadline)
        asked = server.keys_asked
    gcm = {"key": {"kid": KID}, "alg": "AES", "mode": "GCM"}
    plain = {"plain": b64(SEED), "tag_len": 128}
    parts = {"cipher": b64(CIPHER), "iv": b64(IV), "tag": b64(TAG)}
    assert [(a.path, a.json) for a in asked] == [
        (INFO, {"name": 'a \u00e4 "key"'}),
        (BY_KID, {"kid": KID}),
        (BY_KID, {"kid": KID}),
        ("/crypto/v1/encrypt", {**gcm, **plain, "ad": b64(b"aad")}),
        ("/crypto/v1/encrypt", {**gcm, **plain}),
        ("/crypto/v1/decrypt", {**gcm, **parts, "ad": b64(b"aad")}),
        ("/crypto/v1/decrypt", {**gcm, **parts, "ad": ""}),
    ]
    for a in asked:
        assert a.headers["content-type"] == "application/json"
        assert a.headers["user-agent"] == "k8s-sdkms-plugin"
        assert a.headers["host"] == f"127.0.0.1:{server.port}"


async def test_a_path_in_the_endpoint_is_kept(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(f"{server.url}/dsm/")
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert [asked.path for asked in server.asked] == [
            "/dsm/sys/v1/session/auth",
            f"/dsm{INFO}",
        ]


@pytest.mark.parametrize(
    ("kid", "sealed"),
    [
        ("", SEALED),
        ("not a uuid", SEALED),
        (f"{KID}\n", SEALED),
        (KID, Ciphertext(CIPHER, IV, TAG[:12])),
        (KID, Ciphertext(CIPHER, IV, b"")),
        (KID, Ciphertext(CIPHER, IV, TAG + b"x")),
        (KID, Ciphertext(CIPHER, b"", TAG)),
        (KID, Ciphertext(CIPHER, bytes(65), TAG)),
        (KID, Ciphertext(b"", IV, TAG)),
        (KID, Ciphertext(bytes(513), IV, TAG)),
    ],
)
async def test_what_dsm_can_not_have_made_is_not_sent(
    adapters: Adapters, kid: str, sealed: Ciphertext
) -> None:
    provider = adapters.open("https://127.0.0.1:1")
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(kid, sealed, None, deadline=adapters.clock.in_s(3))
    assert adapters.calls == []


async def test_an_id_that_is_no_uuid_names_no_key(adapters: Adapters) -> None:
    provider = adapters.open("https://127.0.0.1:1")
    with pytest.raises(KeyNotFound):
        await provider.describe("a key", deadline=adapters.clock.in_s(3))
    with pytest.raises(KeyNotFound):
        await provider.encrypt("a key", SEED, None, deadline=adapters.clock.in_s(3))
    assert adapters.calls == []


async def test_a_destroyed_key_is_called_destroyed_by_kid(
    emulated: Emulated, adapters: Adapters
) -> None:
    provider = adapters.open_emulated(emulated)
    emulated.dsm.destroy(emulated.demo.key)
    found = await provider.describe(emulated.kid, deadline=adapters.clock.in_s(3))
    with pytest.raises(KeyDestroyed):
        found.judge()
    with pytest.raises(KeyNotFound):
        await provider.describe(deadline=adapters.clock.in_s(3))


async def test_telemetry_hears_of_each_request(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        call_uid.set("uid-1")
        await provider.decrypt(KID, SEALED, None, deadline=adapters.clock.in_s(3))
    call = adapters.calls[-1]
    assert (call.operation, call.uid, call.kid) == ("decrypt", "uid-1", KID)
    assert (call.attempt, call.http_status, call.error) == (1, 200, None)
    assert call.request_id == "req-7"
    assert 0 <= call.duration_s < 3


@pytest.mark.parametrize("request_id", ["a b", "a" * 65, "<script>", "", "a;b"])
async def test_an_odd_request_id_is_dropped(
    authority: trustme.CA, adapters: Adapters, request_id: str
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(http(404, headers={"X-Request-Id": request_id}))

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        with pytest.raises(KeyNotFound) as caught:
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert caught.value.cause.endswith("was answered with HTTP 404")
    assert adapters.calls[-1].request_id == ""


async def test_a_header_that_is_not_ascii_is_no_defect_of_ours(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(http(404, headers={"X-Request-Id": "\u00e4"}))

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        # httpx-aiohttp 0.1.9 can't read such an answer, later ones can.
        with pytest.raises((KeyNotFound, ProviderAnswerRefused)):
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert adapters.calls[-1].request_id == ""
    assert not [e for e in adapters.telemetry.events if isinstance(e, Unexpected)]


async def test_throttling_with_a_wait_that_does_not_fit_is_told_at_once(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(http(429, headers={"Retry-After": "30"}))

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        with pytest.raises(ProviderThrottling):
            await provider.describe(deadline=adapters.clock.in_s(3))
        assert len(server.keys_asked) == 1


async def test_no_secret_and_no_word_of_dsm_reaches_errors_logs_and_telemetry(
    authority: trustme.CA, adapters: Adapters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    words = "words-of-the-other-side"
    texts: list[str] = []

    async def script(asked: Asked) -> None:
        status = [400, 403, 404, 409, 423, 429, 500, 302, 200][len(texts) % 9]
        body = f"{words} {asked.headers['authorization']} {asked.body!r}".encode()
        headers = {"Content-Type": "text/plain", "Location": words, "X-A": words}
        asked.send(http(status, body, headers, reason=words))

    async def odd_login(asked: Asked) -> None:
        asked.send(login("very-secret-token"))

    async with RawServer(script, authority, on_login=odd_login) as server:
        provider = adapters.open(server.url)
        for _ in range(9):
            try:
                await provider.decrypt(
                    KID, SEALED, SEED, deadline=adapters.clock.in_s(3)
                )
            except (SealedSeedNotAuthentic, ProviderError) as error:
                texts.append("".join(traceback.format_exception(error)))
                texts.append(str(error))
    assert len(texts) == 18
    everything = "\n".join([*texts, caplog.text, repr(adapters.calls)])
    everything += repr(vars(provider))
    for secret in (words, "very-secret-token", API_KEY, b64(SEED), b64(CIPHER)):
        assert secret not in everything


async def test_a_defect_of_the_adapter_is_our_error_too(
    authority: trustme.CA, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)

        async def broken(*_: object, **__: object) -> None:
            raise LookupError("seed and token")

        monkeypatch.setattr(connections_of(provider), "send", broken)
        with pytest.raises(ProviderAnswerRefused) as caught:
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert "failed in the adapter (LookupError)" in caught.value.cause
    assert caught.value.__cause__ is None
    (event,) = [e for e in adapters.telemetry.events if isinstance(e, Unexpected)]
    assert "LookupError at " in event.what
    assert "adapters_dsm.exchange:" in event.what
    assert "seed and token" not in f"{caught.value.text()} {event}"


async def test_a_deadline_in_the_past_asks_nothing(adapters: Adapters) -> None:
    provider = adapters.open("https://127.0.0.1:1")
    with pytest.raises(ProviderTimeout):
        await provider._describe(None, adapters.clock.in_s(-1))
    assert adapters.calls == []


async def test_a_dsm_that_hangs_is_a_timeout_within_the_deadline(
    emulated: Emulated, adapters: Adapters
) -> None:
    provider = adapters.open_emulated(emulated)
    emulated.dsm.latency_ms = 10_000
    started = asyncio.get_running_loop().time()
    with pytest.raises(ProviderTimeout):
        await provider.describe(deadline=adapters.clock.in_s(0.2))
    assert asyncio.get_running_loop().time() - started < 1
    emulated.dsm.latency_ms = 0


async def test_a_hundred_calls_at_once(emulated: Emulated, adapters: Adapters) -> None:
    provider = adapters.open_emulated(emulated)
    deadline = adapters.clock.in_s(30)

    async def round_trip(number: int) -> bool:
        seed = number.to_bytes(32, "big")
        aad = str(number).encode()
        sealed = await provider.encrypt(emulated.kid, seed, aad, deadline=deadline)
        opened = await provider.decrypt(emulated.kid, sealed, aad, deadline=deadline)
        return opened == seed

    assert all(await asyncio.gather(*[round_trip(n) for n in range(1, 101)]))
    assert emulated.count("/sys/v1/session/auth") == 1


async def test_another_key_in_the_answer_is_refused(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        with pytest.raises(ProviderAnswerRefused, match="another key"):
            await provider.describe(str(uuid.uuid4()), deadline=adapters.clock.in_s(3))

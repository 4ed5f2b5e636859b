from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kms_core.errors import (
    KeyCompromised,
    KeyDeactivated,
    KeyDestroyed,
    KeyDisabled,
    KeyIdMalformed,
    KeyNotActive,
    KeyNotFound,
    KeyUnsuitable,
    KmsError,
    ProviderAnswerRefused,
    ProviderError,
    ProviderTimeout,
    SealedSeedNotAuthentic,
    error_classes,
)
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider, KeyState


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
S = KeyState


def described(**changes: Any) -> KeyDescription:
    return KeyDescription(kid=KID, **changes)


def test_an_active_enabled_aes_key_is_fit() -> None:
    described(size_bits=256, name="n", replaced="a", replacement="b").judge()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (S.DESTROYED, KeyDestroyed),
        (S.COMPROMISED, KeyCompromised),
        (S.DELETED, KeyNotFound),
        # A date must not work like an explicit word, even if it disables as well.
        (S.DEACTIVATED, KeyDeactivated),
    ],
)
def test_an_unfit_state_counts_before_disabled(
    state: KeyState, expected: type[KmsError], *, enabled: bool
) -> None:
    with pytest.raises(expected, match=KID) as caught:
        described(state=state, enabled=enabled, algorithm="RSA").judge()
    assert caught.type is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"enabled": False}, KeyDisabled),
        ({"enabled": False, "state": S.PRE_ACTIVE}, KeyDisabled),
        ({"enabled": False, "algorithm": "RSA"}, KeyDisabled),
        ({"state": S.PRE_ACTIVE}, KeyNotActive),
        ({"state": S.PRE_ACTIVE, "can_encrypt": False}, KeyNotActive),
        ({"algorithm": "RSA"}, KeyUnsuitable),
        ({"algorithm": "aes"}, KeyUnsuitable),
        ({"can_encrypt": False}, KeyUnsuitable),
        ({"can_decrypt": False}, KeyUnsuitable),
    ],
)
def test_other_reasons_by_precedence(
    changes: dict[str, Any], expected: type[KmsError]
) -> None:
    with pytest.raises(expected) as caught:
        described(**changes).judge()
    assert caught.type is expected


def test_every_missing_operation_is_named() -> None:
    with pytest.raises(KeyUnsuitable, match="ENCRYPT and DECRYPT"):
        described(can_encrypt=False, can_decrypt=False).judge()


class ScriptedProvider(KeyProvider):
    """Does in each call what it is given."""

    def __init__(self, act: Callable[[], Awaitable[Any]]) -> None:
        self.act = act

    async def aclose(self) -> None:
        raise NotImplementedError

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        found: KeyDescription = await self.act()
        return found

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        found: Ciphertext = await self.act()
        return found

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        found: bytes = await self.act()
        return found


CALLS = ("describe", "encrypt", "decrypt")


async def call(provider: KeyProvider, what: str, *, within_s: float = 30.0) -> Any:
    deadline = asyncio.get_running_loop().time() + within_s
    match what:
        case "describe":
            return await provider.describe(deadline=deadline)
        case "encrypt":
            return await provider.encrypt(KID, b"seed", None, deadline=deadline)
        case _:
            ciphertext = Ciphertext(b"c", b"i", b"t")
            return await provider.decrypt(KID, ciphertext, None, deadline=deadline)


def raising(error: BaseException) -> ScriptedProvider:
    async def act() -> None:
        raise error

    return ScriptedProvider(act)


FAMILY = [
    cls
    for cls in error_classes()
    if issubclass(cls, ProviderError) or cls is SealedSeedNotAuthentic
]


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("cls", FAMILY)
async def test_the_family_passes_unchanged(what: str, cls: type[KmsError]) -> None:
    error = cls("why")
    with pytest.raises(cls) as caught:
        await call(raising(error), what)
    assert caught.value is error


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize(
    "foreign",
    [
        ValueError("secret"),
        KeyError("secret"),
        OSError(5, "secret"),
        ExceptionGroup("secret", [ValueError("secret")]),
        KeyIdMalformed("secret"),
        UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret"),
    ],
)
async def test_foreign_exceptions_become_one_refusal_without_their_text(
    what: str, foreign: Exception
) -> None:
    with pytest.raises(ProviderAnswerRefused) as caught:
        await call(raising(foreign), what)
    assert "secret" not in caught.value.text()
    assert caught.value.cause == (
        f"{what} failed in the adapter ({type(foreign).__name__})"
    )


@pytest.mark.parametrize("what", CALLS)
async def test_the_deadline_ends_a_call_that_hangs(what: str) -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ProviderTimeout) as caught:
        await call(ScriptedProvider(hang), what, within_s=0.01)
    assert caught.value.cause == f"no answer to {what} before the deadline"
    assert ended.is_set()


async def test_a_deadline_that_has_passed_ends_the_call_at_its_first_wait() -> None:
    with pytest.raises(ProviderTimeout):
        await call(ScriptedProvider(asyncio.Event().wait), "encrypt", within_s=-1.0)


async def test_a_timeout_of_the_adapter_itself_is_a_timeout() -> None:
    with pytest.raises(ProviderTimeout):
        await call(raising(TimeoutError("secret")), "decrypt")


@pytest.mark.parametrize("what", CALLS)
async def test_cancellation_passes(what: str) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(ScriptedProvider(hang), what))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "changes",
    [
        {"kid": "bad kid\n"},
        {"kid": ""},
        {"kid": "x" * 10_000},
        {"kid": KID, "replaced": "bad:kid"},
    ],
)
async def test_a_description_with_ids_of_unknown_form_is_refused_unquoted(
    changes: dict[str, Any],
) -> None:
    async def describe() -> KeyDescription:
        return KeyDescription(**changes)

    with pytest.raises(ProviderAnswerRefused) as caught:
        await call(ScriptedProvider(describe), "describe")
    assert caught.value.cause == "the key service gave an id of unknown form"


async def test_answers_pass() -> None:
    async def describe() -> KeyDescription:
        return described(replaced="a")

    async def decrypt() -> bytes:
        return b"seed"

    assert await call(ScriptedProvider(describe), "describe") == described(replaced="a")
    assert await call(ScriptedProvider(decrypt), "decrypt") == b"seed"


async def test_renewing_does_nothing_unless_a_provider_says_so() -> None:
    await raising(AssertionError()).renew()

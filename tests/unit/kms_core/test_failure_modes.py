"""What Status, Encrypt and Decrypt answer in each failure of docs/failure-modes.md.

One test for each row of its table, with the policies ``coast`` and ``fail``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kms_core.errors import (
    ApprovalNeeded,
    CredentialRefused,
    KmsError,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
    ProviderUntrusted,
    RpcCode,
)
from kms_core.fakes import InMemoryKeyProvider, InMemoryStore
from kms_core.provider import Ciphertext, KeyState
from kms_core.standing import OnDenied, OnTrouble, Phase


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.kms_core.conftest import Scene

    from kms_core.service import EncryptAnswer


FAIL = {"on_outage": OnTrouble.FAIL, "on_refused": OnTrouble.FAIL}
OK = "OK"
UNAVAILABLE = RpcCode.UNAVAILABLE.value
FAILED_PRECONDITION = RpcCode.FAILED_PRECONDITION.value
PERMISSION_DENIED = RpcCode.PERMISSION_DENIED.value

OUTAGE_SEEN_S = 95.0
"""The failed looks that count take 60 s, the first of them may be 30 s away."""

REFUSAL_SEEN_S = 31.0
"""The next look may be 30 s away; the second comes a second after it."""

PROBE_INTERVAL_S = 3600.0
COAST_FOR_S = 2 * PROBE_INTERVAL_S
"""A day unless it is set; less here, since each look takes its time."""


async def code_of(call: Awaitable[object]) -> str:
    """Return the gRPC code that the call ends in."""
    try:
        await call
    except KmsError as error:
        return error.rpc_code.value
    return OK


class Failure:
    """Daemons with each protection, side by side on one key service."""

    def __init__(self, make_scene: Callable[..., Scene]) -> None:
        self.make = make_scene
        self.provider = Provider()
        self.scenes: dict[str, Scene] = {}
        self.warm: dict[str, EncryptAnswer] = {}
        self.cold: dict[str, EncryptAnswer] = {}

    async def prepare(self, **policy: object) -> Failure:
        for name in ("local-kek", "direct"):
            local_kek = name == "local-kek"
            neighbour = await self.scene(local_kek=local_kek)
            self.cold[name] = await neighbour.seal()
            await neighbour.stop()
            made = await self.scene(local_kek=local_kek, policy=policy)
            self.scenes[name] = made
            self.warm[name] = await made.seal()
        return self

    async def scene(self, **choices: object) -> Scene:
        return await self.make(provider=self.provider, **choices).start()

    async def after(self, seconds: float) -> None:
        for scene in self.scenes.values():
            await scene.after(seconds)

    async def answers(self, name: str) -> tuple[str, str, str, str]:
        """Return what Status, Encrypt, a warm and a cold Decrypt answer.

        Warm is a seed of its own, cold one of another node.
        """
        scene = self.scenes[name]

        async def status() -> str:
            return scene.key_id()

        return (
            await code_of(status()),
            await code_of(scene.encrypt()),
            await code_of(scene.decrypt(self.warm[name])),
            await code_of(scene.decrypt(self.cold[name])),
        )

    def phases(self) -> set[Phase]:
        return {scene.phase() for scene in self.scenes.values()}

    def codes(self) -> set[str]:
        return {scene.reports[-1].code for scene in self.scenes.values()}


class Provider(InMemoryKeyProvider):
    """Refuses the use of a key while looks at it are good, if told."""

    def __init__(self) -> None:
        super().__init__()
        self.no_use: KmsError | None = None

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        if self.no_use is not None:
            raise self.no_use.without_traceback()
        return await super()._encrypt(kid, plaintext, aad, deadline)

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        if self.no_use is not None:
            raise self.no_use.without_traceback()
        return await super()._decrypt(kid, ciphertext, aad, deadline)


@pytest.fixture
async def coast(make_scene: Callable[..., Scene]) -> Failure:
    return await Failure(make_scene).prepare(coast_for_s=COAST_FOR_S)


@pytest.fixture
async def fail(make_scene: Callable[..., Scene]) -> Failure:
    return await Failure(make_scene).prepare(**FAIL)


async def is_an_outage(coast: Failure, fail: Failure, error: KmsError) -> None:
    for failure in (coast, fail):
        failure.provider.outage = error
        await failure.after(OUTAGE_SEEN_S)
        assert failure.codes() == {error.code}
    assert coast.phases() == {Phase.COASTING}
    assert fail.phases() == {Phase.DEGRADED}
    cold = error.rpc_code.value
    assert await coast.answers("local-kek") == (OK, OK, OK, cold)
    assert await coast.answers("direct") == (OK, cold, cold, cold)
    assert await fail.answers("local-kek") == (UNAVAILABLE, UNAVAILABLE, OK, cold)
    assert await fail.answers("direct") == (UNAVAILABLE, UNAVAILABLE, cold, cold)
    await coast.after(COAST_FOR_S)
    assert await coast.answers("local-kek") == (UNAVAILABLE, UNAVAILABLE, OK, cold)
    await heals(coast, fail)


async def heals(*failures: Failure) -> None:
    for failure in failures:
        failure.provider.outage = failure.provider.no_use = None
        await failure.after(REFUSAL_SEEN_S)
        for name in failure.scenes:
            assert await failure.answers(name) == (OK, OK, OK, OK)


async def test_dsm_is_unreachable(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderUnreachable("no route"))


async def test_dsm_answers_too_late(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderTimeout("late"))


async def test_dsm_throttles(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderThrottling("429"))


async def test_dsm_answers_5xx(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderFaulty("503"))


async def test_tls_is_not_trusted(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderUntrusted("the certificate has expired"))


async def test_dsm_s_answers_are_wrong(coast: Failure, fail: Failure) -> None:
    await is_an_outage(coast, fail, ProviderAnswerRefused("another kid"))


async def is_a_denial(make_scene: Callable[..., Scene], code: str, opens: str) -> None:
    """Check one way to call the key unusable; *opens*: what a decrypt ends in."""
    for on_denied, warm in ((OnDenied.DROP, opens), (OnDenied.KEEP, OK)):
        failure = await Failure(make_scene).prepare(on_denied=on_denied)
        kid = failure.provider.configured
        DENY[code](failure.provider, kid)
        await failure.after(REFUSAL_SEEN_S)
        assert failure.codes() == {code}
        assert failure.phases() == {Phase.DENIED}
        refused = (FAILED_PRECONDITION, FAILED_PRECONDITION)
        assert await failure.answers("local-kek") == (*refused, warm, opens)
        assert await failure.answers("direct") == (*refused, opens, opens)
        # An outage that follows changes nothing of that.
        failure.provider.outage = ProviderUnreachable("no route")
        await failure.after(3600.0)
        assert (await failure.answers("local-kek"))[:2] == refused
        failure.provider.change(kid, enabled=True, state=KeyState.ACTIVE)
        await heals(failure)


DENY: dict[str, Callable[[InMemoryKeyProvider, str], None]] = {
    "KEY-DISABLED": lambda p, kid: p.change(kid, enabled=False),
    "KEY-COMPROMISED": lambda p, kid: p.change(kid, state=KeyState.COMPROMISED),
    "KEY-DESTROYED": lambda p, kid: p.change(kid, state=KeyState.DESTROYED),
}


async def test_the_key_is_disabled(make_scene: Callable[..., Scene]) -> None:
    await is_a_denial(make_scene, "KEY-DISABLED", PERMISSION_DENIED)


async def test_the_key_is_compromised(make_scene: Callable[..., Scene]) -> None:
    await is_a_denial(make_scene, "KEY-COMPROMISED", OK)


async def test_the_key_is_destroyed(make_scene: Callable[..., Scene]) -> None:
    await is_a_denial(make_scene, "KEY-DESTROYED", PERMISSION_DENIED)


async def is_a_refusal(
    coast: Failure, fail: Failure, code: str, *, encrypt: str, decrypt: str
) -> None:
    """Check what may be a mistake; *encrypt*, *decrypt*: what DSM makes of them."""
    for failure in (coast, fail):
        assert failure.codes() == {code}
    assert coast.phases() == {Phase.COASTING}
    assert fail.phases() == {Phase.DEGRADED}
    assert await coast.answers("local-kek") == (OK, OK, OK, decrypt)
    assert await coast.answers("direct") == (OK, encrypt, decrypt, decrypt)
    refused = (UNAVAILABLE, UNAVAILABLE)
    assert await fail.answers("local-kek") == (*refused, OK, decrypt)
    assert await fail.answers("direct") == (*refused, decrypt, decrypt)


async def test_the_key_is_deactivated(coast: Failure, fail: Failure) -> None:
    for failure in (coast, fail):
        kid = failure.provider.configured
        failure.provider.change(kid, state=KeyState.DEACTIVATED)
        await failure.after(REFUSAL_SEEN_S)
    await is_a_refusal(
        coast, fail, "KEY-DEACTIVATED", encrypt=FAILED_PRECONDITION, decrypt=OK
    )
    for failure in (coast, fail):
        # The remedy: a rotation. What is stored under the old key still opens.
        failure.provider.rekey()
    await heals(coast, fail)


async def test_the_key_is_gone(coast: Failure, fail: Failure) -> None:
    for failure in (coast, fail):
        kid = failure.provider.configured
        kept = failure.provider.keys.pop(kid)
        await failure.after(REFUSAL_SEEN_S)
        failure.provider.keys.setdefault("kept", kept)
    gone = RpcCode.NOT_FOUND.value
    await is_a_refusal(coast, fail, "KEY-NOT-FOUND", encrypt=gone, decrypt=gone)
    for failure in (coast, fail):
        kept = failure.provider.keys.pop("kept")
        failure.provider.keys[kept.kid] = kept
    await heals(coast, fail)


async def test_a_permission_is_withdrawn(coast: Failure, fail: Failure) -> None:
    for failure in (coast, fail):
        failure.provider.outage = PermissionRefused("403")
        await failure.after(REFUSAL_SEEN_S)
    await is_a_refusal(
        coast,
        fail,
        "PERMISSION-REFUSED",
        encrypt=PERMISSION_DENIED,
        decrypt=PERMISSION_DENIED,
    )
    await heals(coast, fail)


async def test_the_credential_is_refused(coast: Failure, fail: Failure) -> None:
    for failure in (coast, fail):
        failure.provider.outage = CredentialRefused("401")
        # The timer alone tries it again.
        await failure.after(61.0)
    refused = RpcCode.UNAUTHENTICATED.value
    await is_a_refusal(
        coast, fail, "CREDENTIAL-REFUSED", encrypt=refused, decrypt=refused
    )
    await heals(coast, fail)


async def test_an_approval_is_needed(coast: Failure, fail: Failure) -> None:
    for failure in (coast, fail):
        # Looks are good: it shows at the next probe.
        failure.provider.no_use = ApprovalNeeded("quorum")
        await failure.after(PROBE_INTERVAL_S + REFUSAL_SEEN_S)
    await is_a_refusal(
        coast,
        fail,
        "APPROVAL-NEEDED",
        encrypt=FAILED_PRECONDITION,
        decrypt=FAILED_PRECONDITION,
    )
    await heals(coast, fail)


async def restarted_in_an_outage(
    make_scene: Callable[..., Scene], **choices: object
) -> dict[bool, tuple[str, ...]]:
    """Return what the new process answers, with a local KEK and without one."""
    answers: dict[bool, tuple[str, ...]] = {}
    for local_kek in (True, False):
        first = await make_scene(local_kek=local_kek, **choices).start()
        sealed = await first.seal()
        await first.after(600.0)
        first.provider.outage = ProviderUnreachable("no route")
        await first.stop()
        second = await make_scene(before=first, local_kek=local_kek).start()

        async def status(scene: Scene = second) -> str:
            return scene.key_id()

        answers[local_kek] = (
            await code_of(status()),
            await code_of(second.encrypt()),
            await code_of(second.decrypt(sealed)),
        )
        second.provider.outage = None
        await second.after(REFUSAL_SEEN_S)
        assert await second.encrypt() == sealed.key_id
        assert await code_of(second.decrypt(sealed)) == OK
    return answers


async def test_the_daemon_is_restarted_in_an_outage_with_a_state_dir(
    make_scene: Callable[..., Scene],
) -> None:
    answers = await restarted_in_an_outage(make_scene, store=InMemoryStore())
    assert set(answers.values()) == {(OK, UNAVAILABLE, UNAVAILABLE)}


async def test_the_daemon_is_restarted_in_an_outage_without_a_state_dir(
    make_scene: Callable[..., Scene],
) -> None:
    answers = await restarted_in_an_outage(make_scene)
    assert set(answers.values()) == {(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE)}


async def test_no_status_that_is_not_ok_carries_a_key_id(
    coast: Failure, fail: Failure
) -> None:
    # kubernetes/kubernetes#138950: it would extend the write key for ever.
    for failure in (coast, fail):
        failure.provider.outage = ProviderUnreachable("no route")
        for _ in range(100):
            await failure.after(15.0)
            for scene in failure.scenes.values():
                try:
                    answer = scene.service.status()
                except KmsError:
                    continue
                assert answer.healthz == "ok"
                assert answer.key_id == scene.announced.key_id
                key = await scene.watcher.key_to_seal(deadline=scene.clock.monotonic())
                assert key.key_id == answer.key_id
    await asyncio.sleep(0)

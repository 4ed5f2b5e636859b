"""Drives the state machine: looks, probes, and says when something changes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from kms_core.errors import (
    CredentialRefused,
    InternalFault,
    KeyNotFound,
    KmsError,
    NotReady,
    ProviderTimeout,
)
from kms_core.events import SecretsDropped, Unexpected, describe_exception
from kms_core.kept_proof import KeptProof
from kms_core.key_id import AnnouncedKey
from kms_core.standing import (
    Drop,
    LookAgain,
    Looked,
    LookFailed,
    Observation,
    Phase,
    Policy,
    Probe,
    Proved,
    Standing,
    Ticked,
    UseFailed,
)
from kms_core.standing_reports import StandingReports
from kms_core.store import NoStore, StateStore
from kms_core.transitions import step


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kms_core.envelope import Envelope
    from kms_core.key_id import KeyNaming
    from kms_core.ports import Clock, Randomness, Telemetry
    from kms_core.provider import KeyDescription, KeyProvider


PROBE_BYTES: Final = 32
"""What a probe encrypts: as many bytes as kube-apiserver's seeds have."""


@frozen(kw_only=True)
class Timing:
    """When the watcher acts. Durations in seconds.

    Attributes:
        look_interval_s: Between looks while all is well.
        first_retry_s: Before the first round after a failed one; it doubles from there
            up to ``look_interval_s``.
        jitter: Share of each pause that is left to chance, so that daemons which
            started together spread out.
        look_timeout_s: Deadline of one look.
        first_look_timeout_s: The same for the first look of a start, so that Status
            soon says what is wrong; it doubles with each failed round.
        probe_timeout_s: Deadline of one probe, which is two calls.
        reminder_s: Between reports of a phase that is not READY.
        store_interval_s: Between two writes of the same key's proof to the store.
    """

    look_interval_s: float = 30.0
    first_retry_s: float = 1.0
    jitter: float = 0.2
    look_timeout_s: float = 10.0
    first_look_timeout_s: float = 1.0
    probe_timeout_s: float = 10.0
    reminder_s: float = 300.0
    store_interval_s: float = 300.0


@frozen(kw_only=True)
class Surroundings:
    """What the watcher is given to work with."""

    provider: KeyProvider
    envelope: Envelope
    naming: KeyNaming
    clock: Clock
    randomness: Randomness
    telemetry: Telemetry
    policy: Policy = field(factory=Policy)
    timing: Timing = field(factory=Timing)
    store: StateStore = field(factory=NoStore)


class Watcher:
    """Keeps the standing up to date, and answers from it without waiting.

    ``run`` is the one task that looks and probes; everything else reads the standing,
    which is replaced as a whole.

    Args:
        surroundings: Ports and choices.

    Attributes:
        standing: The current standing, a snapshot.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._with = surroundings
        self._woken = asyncio.Event()
        self._first_round_ended = asyncio.Event()
        self._doubted = False
        self._failed_rounds = 0
        self._stray: KmsError | None = None
        self._reports = StandingReports(
            surroundings.clock,
            surroundings.telemetry,
            surroundings.policy,
            surroundings.timing.reminder_s,
        )
        self._emit = self._reports.emit
        self._proof = KeptProof(
            surroundings.store,
            surroundings.clock,
            surroundings.timing.store_interval_s,
        )
        self.standing = Standing()

    def key_to_announce(self) -> AnnouncedKey:
        """Return the key that Status names.

        Raises:
            NotReady: STARTING or DEGRADED; the text names the cause.
            DenialError: DENIED.
        """
        standing = self._now()
        key = standing.announced
        if key is not None and standing.phase in (Phase.READY, Phase.COASTING):
            return key
        if standing.denial is not None:
            # A copy: each raise would make the kept one's traceback longer.
            raise standing.denial.without_traceback()
        raise NotReady(_why_not(standing))

    async def key_to_seal(self, *, deadline: float) -> AnnouncedKey:
        """Return the key that Encrypt must use, the announced one.

        At a start the first round's end is awaited: the socket is there before the key
        is proven, and whoever dialed early shall get an answer rather than a refusal.

        Args:
            deadline: Loop time at which to wait no longer.

        Raises:
            NotReady, DenialError: As for ``key_to_announce``.
        """
        if not self._first_round_ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._first_round_ended.wait()
        return self.key_to_announce()

    def sealed(self, key: AnnouncedKey) -> None:
        """Note that an Encrypt under *key* succeeded, opening included."""
        self._see(Proved(key, by_probe=False))

    def seal_failed(self, key: AnnouncedKey, error: KmsError) -> None:
        """Note that an Encrypt under *key* failed, and look at once.

        One that ran out of time is no evidence, only a reason to look: its caller chose
        the time. A refused credential is evidence, but the timer alone tries it again.
        """
        if not isinstance(error, ProviderTimeout):
            action = self._see(UseFailed(key, error, by_probe=False))
            if isinstance(action, LookAgain) and action.renewed:
                self._doubted = True
        if not isinstance(error, CredentialRefused):
            self.look_soon()

    def look_soon(self) -> None:
        """Let the next look begin now (SIGHUP, a refused Encrypt), one more follow."""
        self._woken.set()

    async def run(self) -> None:
        """Look, probe and report until cancelled."""
        await self._undisturbed(self._recall)
        while True:
            woken = self._woken.is_set()
            self._woken.clear()
            try:
                well = await self._round()
            except Exception as error:  # noqa: BLE001 - the watcher must not die
                fault = InternalFault(f"the watcher failed ({type(error).__name__})")
                self._emit(Unexpected(where="watcher", what=describe_exception(error)))
                self._see(LookFailed(fault))
                well = False
            self._failed_rounds = 0 if well else self._failed_rounds + 1
            self._first_round_ended.set()
            pause_s = self._pause_s()
            if woken:
                # What woke us may show at the key service a moment later only.
                pause_s = min(pause_s, self._with.policy.recheck_s)
            self._report(next_look_s=pause_s)
            await self._undisturbed(self._remember)
            await self._wait(pause_s)

    async def _round(self) -> bool:
        """Look once, and do what follows until nothing does; return if it ended well.

        Rounds are counted, not looks: when looks are good and probes fail, the pauses
        must grow as well.
        """
        action: LookAgain | Probe | None = LookAgain(0.0, renewed=self._doubted)
        self._doubted = False
        well = True
        # A look, a second one, a probe, and the same again for what the probe found;
        # the bound keeps a service that contradicts itself from holding us here.
        for _ in range(6):
            match action:
                case None:
                    break
                case LookAgain(after_s, renewed):
                    if after_s > 0:
                        await self._with.clock.sleep(after_s)
                    if renewed:
                        await self._renew()
                    seen = await self._look()
                    well = isinstance(seen, Looked)
                    action = self._see(seen)
                case Probe(key):
                    seen = await self._probe(key)
                    well = isinstance(seen, Proved)
                    action = self._see(seen)
                    announced = self.standing.announced
                    if isinstance(seen, UseFailed) and announced not in (None, key):
                        # The name leads to a key that can't take over, and nobody has
                        # looked at ours.
                        self._stray = seen.error.without_traceback()
                        action = self._see(await self._look_at(announced))
        return well

    async def _undisturbed(self, use_store: Callable[[], Awaitable[None]]) -> None:
        """Use the store; a defect of it costs no more than what it should keep."""
        try:
            await use_store()
        except Exception as error:  # noqa: BLE001 - the watcher must not die
            self._emit(Unexpected(where="store", what=describe_exception(error)))

    async def _recall(self) -> None:
        remembered = await self._proof.recall()
        # A rotation while we were away is hidden by the Go plugin's format as well.
        self._reports.first_kid = self._proof.first_kid
        self.standing = evolve(self.standing, remembered=remembered)

    async def _remember(self) -> None:
        await self._proof.update(self.standing, self._with.policy)

    async def _renew(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._with.timing.look_timeout_s):
                await self._with.provider.renew()

    async def _look(self) -> Observation:
        self._stray = None
        try:
            description = await self._describe(None)
            unfit = _unfitness(description)
            announced = self.standing.announced
            if announced is not None and (
                unfit is not None and description.kid != announced.kid
            ):
                self._stray = unfit.without_traceback()
                return await self._look_at(announced)
        except KeyNotFound as error:
            announced = self.standing.announced
            if announced is None:
                return LookFailed(error)
            # The name or id is gone; the announced key itself may be well.
            self._stray = error.without_traceback()
            return await self._look_at(announced)
        except KmsError as error:
            return LookFailed(error)
        return self._seen(description, unfit)

    async def _look_at(self, key: AnnouncedKey) -> Observation:
        """Look at *key* by its kid, since the name leads elsewhere or nowhere."""
        try:
            description = await self._describe(key.kid)
        except KmsError as error:
            return LookFailed(error)
        return self._seen(description, _unfitness(description))

    def _seen(self, description: KeyDescription, unfit: KmsError | None) -> Observation:
        if unfit is not None:
            return LookFailed(unfit, description.kid)
        try:
            key_id = self._with.naming.key_id(description)
        except KmsError as error:
            return LookFailed(error)
        self._reports.tell_findings(description, key_id, self.standing.announced)
        return Looked(AnnouncedKey(description.kid, key_id), description.replaced)

    async def _describe(self, kid: str | None) -> KeyDescription:
        deadline = self._with.clock.monotonic() + self._look_timeout_s()
        return await self._with.provider.describe(kid, deadline=deadline)

    def _look_timeout_s(self) -> float:
        timing = self._with.timing
        if self.standing.phase is not Phase.STARTING:
            return timing.look_timeout_s
        doublings = min(self._failed_rounds, 16)
        return min(timing.look_timeout_s, timing.first_look_timeout_s * 2.0**doublings)

    async def _probe(self, key: AnnouncedKey) -> Observation:
        deadline = self._with.clock.monotonic() + self._with.timing.probe_timeout_s
        probe = self._with.randomness.token(PROBE_BYTES)
        try:
            await self._with.envelope.prove(key, probe, deadline=deadline)
        except KmsError as error:
            return UseFailed(key, error)
        return Proved(key, by_probe=True)

    def _now(self) -> Standing:
        if self.standing.phase is Phase.COASTING:
            self._see(Ticked())
        return self.standing

    def _see(self, observation: Observation) -> LookAgain | Probe | None:
        now = self._with.clock.monotonic()
        result = step(self.standing, observation, now, self._with.policy)
        changed = (result.standing.phase, result.standing.announced) != (
            self.standing.phase,
            self.standing.announced,
        )
        self.standing = result.standing
        action = result.action
        if isinstance(action, Drop):
            # At once, whoever saw it: no count of steps and no later look may lose it.
            self._drop(action.kid)
            action = None
        if changed:
            self._report(next_look_s=None)
        return action

    def _drop(self, kid: str) -> None:
        count = self._with.envelope.drop(kid)
        if count:
            self._emit(SecretsDropped(kid=kid, count=count))

    def _pause_s(self) -> float:
        timing = self._with.timing
        pause_s = timing.look_interval_s
        if self._failed_rounds:
            doublings = min(self._failed_rounds - 1, 16)
            pause_s = min(pause_s, timing.first_retry_s * 2.0**doublings)
        return pause_s * self._with.randomness.uniform(1 - timing.jitter, 1.0)

    async def _wait(self, pause_s: float) -> None:
        began = self._with.clock.monotonic()
        pause = asyncio.ensure_future(self._with.clock.sleep(pause_s))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((pause, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            woken.cancel()
            await asyncio.gather(pause, woken, return_exceptions=True)
        # Whoever wakes us in a row must not make us ask in a row.
        least_s = min(pause_s, self._with.policy.recheck_s)
        rest_s = began + least_s - self._with.clock.monotonic()
        if rest_s > 0:
            await self._with.clock.sleep(rest_s)

    def _report(self, *, next_look_s: float | None) -> None:
        self._reports.tell(self.standing, self._stray, next_look_s=next_look_s)


def _unfitness(description: KeyDescription) -> KmsError | None:
    try:
        description.judge()
    except KmsError as error:
        return error
    return None


def _why_not(standing: Standing) -> str:
    phase = standing.phase.value
    if standing.trouble is None:
        return f"{phase}, the key is being proven"
    error = standing.trouble.error
    return f"{phase}, {error.code}: {error.cause}; {error.hint}"

"""The state machine driven by any observations in any order."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from kms_core.errors import CredentialRefused, KmsError, Meaning, error_classes
from kms_core.key_id import AnnouncedKey
from kms_core.standing import (
    Action,
    Drop,
    LookAgain,
    Looked,
    LookFailed,
    Observation,
    OnDenied,
    OnTrouble,
    Phase,
    Policy,
    Probe,
    Proved,
    Remembered,
    Standing,
    Ticked,
    UseFailed,
    meaning_of,
)
from kms_core.transitions import step


KEYS = [
    AnnouncedKey("a", "sdkms.v1:a"),
    AnnouncedKey("b", "sdkms.v1:b:a"),
    AnnouncedKey("a", "sdkms.v1:a:b"),
    AnnouncedKey("c", "sdkms.v1:c"),
]
ERRORS = [cls("x") for cls in error_classes()] + [
    CredentialRefused("x", remembered=True)
]

keys = st.sampled_from(KEYS)
kids = st.sampled_from([None, "a", "b", "c"])
errors = st.sampled_from(ERRORS)
denials = st.sampled_from([e for e in ERRORS if e.meaning is Meaning.DENIED])
pauses = st.sampled_from([0.0, 0.5, 1.0, 29.0, 61.0, 3600.0, 12 * 3600.0, 30 * 3600.0])
policies = st.builds(
    Policy,
    on_outage=st.sampled_from(OnTrouble),
    on_refused=st.sampled_from(OnTrouble),
    on_denied=st.sampled_from(OnDenied),
    coast_for_s=st.sampled_from([0.0, 600.0, 24 * 3600.0]),
)


class AnyOrder(RuleBasedStateMachine):
    """Checks each step against what the rules promise."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy()
        self.now = 1000.0
        self.standing = Standing()
        self.action: Action | None = None
        # The latest successful looks that agree, however they were interrupted.
        self.looked: tuple[AnnouncedKey | None, int] = (None, 0)
        # What two looks in a row called unusable, and no probe has proven since.
        self.denied: set[str] = set()
        self.previous: Observation | None = None

    @initialize(
        policy=policies,
        remembered=st.none() | st.tuples(keys, st.sampled_from([0.0, 300.0, 1e5])),
        denial=st.none() | denials,
    )
    def choose(
        self,
        policy: Policy,
        remembered: tuple[AnnouncedKey, float] | None,
        denial: KmsError | None,
    ) -> None:
        self.policy = policy
        if remembered is not None:
            key, ago_s = remembered
            self.standing = Standing(remembered=Remembered(key, self.now - ago_s))
        if denial is not None:
            # Rare by chance alone: a start with a key that must not be used.
            self.see(LookFailed(denial), 0.0)
            self.see(LookFailed(denial), 1.0)

    @rule(key=keys, replaced=kids, pause_s=pauses)
    def look(self, key: AnnouncedKey, replaced: str | None, pause_s: float) -> None:
        before, count = self.looked
        self.looked = (key, count + 1 if key == before else 1)
        self.see(Looked(key, replaced), pause_s)
        assert not isinstance(self.action, Probe) or self.action.key == key

    @rule(error=errors, kid=kids, pause_s=pauses)
    def fail_to_look(self, error: KmsError, kid: str | None, pause_s: float) -> None:
        self.see(LookFailed(error, self.known(kid)), pause_s)

    @rule(error=errors, kid=kids, times=st.integers(2, 4), pause_s=pauses)
    def keep_failing(
        self, error: KmsError, kid: str | None, times: int, pause_s: float
    ) -> None:
        for _ in range(times):
            self.see(LookFailed(error, self.known(kid)), pause_s)

    def known(self, kid: str | None) -> str | None:
        """Return what the watcher says: once a key is announced, it looks at that."""
        announced = self.standing.announced
        return kid if kid is None or announced is None else announced.kid

    @rule(key=keys, by_probe=st.booleans(), pause_s=pauses)
    def prove(self, key: AnnouncedKey, *, by_probe: bool, pause_s: float) -> None:
        self.see(Proved(key, by_probe=by_probe), pause_s)

    @rule(key=keys, error=errors, by_probe=st.booleans(), pause_s=pauses)
    def fail_to_use(
        self, key: AnnouncedKey, error: KmsError, *, by_probe: bool, pause_s: float
    ) -> None:
        self.see(UseFailed(key, error, by_probe=by_probe), pause_s)

    @rule(pause_s=pauses)
    def wait(self, pause_s: float) -> None:
        self.see(Ticked(), pause_s)

    @precondition(lambda self: isinstance(self.action, Probe))
    @rule()
    def probe_as_asked(self) -> None:
        assert isinstance(self.action, Probe)
        self.see(Proved(self.action.key, by_probe=True), 0.1)

    @precondition(lambda self: isinstance(self.action, LookAgain))
    @rule()
    def look_again_as_asked(self) -> None:
        assert isinstance(self.action, LookAgain)
        key = self.looked[0]
        if key is not None:
            self.look(key=key, replaced=None, pause_s=self.action.after_s)

    def see(self, observation: Observation, pause_s: float) -> None:
        self.now += pause_s
        before = self.standing
        kept = evolve(before)
        result = step(before, observation, self.now, self.policy)
        assert before == kept
        self.standing, self.action = result.standing, result.action
        self.check(before, observation)
        self.note_denials(before, observation)
        self.previous = observation

    def note_denials(self, before: Standing, observation: Observation) -> None:
        """Keep ``denied``, by rules of its own."""
        match observation, self.previous:
            case LookFailed(error, kid), LookFailed(earlier, _) if (
                error.meaning is Meaning.DENIED and error.code == earlier.code
            ):
                named = before.announced.kid if before.announced else kid
                remembered = before.remembered
                if named is None and remembered is not None:
                    named = remembered.key.kid
                if named is not None:
                    self.denied.add(named)
            case Proved(key, True), _:
                self.denied.discard(key.kid)

    def check(self, before: Standing, observation: Observation) -> None:
        after = self.standing
        self.check_drop(observation)
        if before.announced is None and before.remembered is not None:
            error = error_in(observation)
            if error is not None and after.announced is not None:
                self.check_resumed(before.remembered, error)
                return
        if after.announced != before.announced:
            assert observation == Proved(after.announced, by_probe=True)  # type: ignore[arg-type]
            assert self.looked[0] == after.announced
            assert self.looked[1] >= 2
            assert after.phase is Phase.READY
        if after.phase is Phase.READY and before.phase is not Phase.READY:
            assert isinstance(observation, Proved)
            assert observation.by_probe
            assert observation.key == after.announced
        if after.phase is Phase.DENIED and before.phase is not Phase.DENIED:
            error = error_in(observation)
            assert error is not None
            assert error.meaning is Meaning.DENIED
            assert before.trouble is not None
            assert before.trouble.error.code == error.code
        self.check_moves(before, observation)

    def check_moves(self, before: Standing, observation: Observation) -> None:
        """Check that what says nothing yet moves no phase, unless time is spent."""
        after = self.standing
        moved = after.phase is not before.phase
        spent = before.phase is Phase.COASTING and after.phase is Phase.DEGRADED
        if isinstance(observation, Ticked):
            assert not moved or spent
        if error_in(observation) is not None and before.trouble is None:
            assert not moved or spent
        if isinstance(observation, UseFailed) and before.announced is not None:
            if observation.key != before.announced:
                assert not moved or spent
                assert after.trouble == before.trouble
            if not observation.by_probe and (
                meaning_of(observation.error) is not Meaning.OUTAGE
            ):
                assert not moved or spent
        if is_remembered(observation) and before.trouble is not None:
            assert after.trouble == before.trouble
            assert not moved or spent

    def check_drop(self, observation: Observation) -> None:
        if isinstance(self.action, Drop):
            assert self.policy.on_denied is OnDenied.DROP
            error = error_in(observation)
            assert error is not None
            assert error.meaning is Meaning.DENIED
            announced = self.standing.announced
            assert announced is None or self.action.kid == announced.kid

    def check_resumed(self, remembered: Remembered, error: KmsError) -> None:
        """Check a start in an outage, with what an earlier process had proven."""
        after = self.standing
        assert after.announced == remembered.key
        assert after.well_at == remembered.well_at
        assert self.now < after.well_at + self.policy.coast_for_s
        assert after.phase in (Phase.COASTING, Phase.DEGRADED)
        assert meaning_of(error) is not Meaning.DENIED
        assert remembered.key.kid not in self.denied

    @invariant()
    def coasting_ends_in_time(self) -> None:
        ends = self.standing.coasts_until(self.policy)
        if self.standing.phase is Phase.COASTING:
            assert ends is not None
            assert self.now < ends

    @invariant()
    def every_phase_but_starting_has_a_key_and_starting_has_none(self) -> None:
        starting = self.standing.phase is Phase.STARTING
        assert starting == (self.standing.announced is None)

    @invariant()
    def a_denial_is_kept_exactly_while_denied(self) -> None:
        denied = self.standing.phase is Phase.DENIED
        assert denied == (self.standing.denial is not None)

    @invariant()
    def a_key_that_two_looks_denied_is_not_used_until_it_is_proven(self) -> None:
        if self.standing.phase in (Phase.READY, Phase.COASTING):
            assert self.standing.announced is not None
            assert self.standing.announced.kid not in self.denied

    @invariant()
    def what_is_remembered_serves_the_start_alone(self) -> None:
        assert self.standing.remembered is None or self.standing.announced is None

    @invariant()
    def what_to_do_next_is_bounded(self) -> None:
        match self.action:
            case LookAgain(after_s, renewed):
                assert after_s in (0.0, self.policy.recheck_s)
                assert not renewed or after_s > 0
            case Probe(key):
                assert key == self.standing.announced or (
                    self.standing.candidate is not None
                    and self.standing.candidate.ripe
                    and self.standing.candidate.key == key
                )

    @invariant()
    def times_lie_in_the_past(self) -> None:
        s = self.standing
        times = [s.proven_at, s.well_at]
        times += [s.trouble.since] if s.trouble else []
        times += [s.candidate.since] if s.candidate else []
        assert all(time is None or time <= self.now for time in times)

    @invariant()
    def good_looks_and_proofs_heal_within_a_bounded_number_of_steps(self) -> None:
        for key in KEYS:
            assert heals(self.standing, key, self.now, self.policy)


def error_in(observation: Observation) -> KmsError | None:
    return (
        observation.error if isinstance(observation, LookFailed | UseFailed) else None
    )


def is_remembered(observation: Observation) -> bool:
    error = error_in(observation)
    return isinstance(error, CredentialRefused) and error.remembered


def heals(standing: Standing, key: AnnouncedKey, now: float, policy: Policy) -> bool:
    """Return whether 4 looks, 30 s apart, and what they ask for lead to READY."""
    for _ in range(4):
        action: Action | None = LookAgain(0.0)
        asked = 0
        while action is not None:
            asked += 1
            assert asked <= 4
            seen: Any = Looked(key)
            match action:
                case Probe(wanted):
                    seen = Proved(wanted, by_probe=True)
                case LookAgain(after_s):
                    now += after_s
                case Drop():
                    raise AssertionError("what is well drops nothing")
            result = step(standing, seen, now, policy)
            standing, action = result.standing, result.action
        if standing.phase is Phase.READY and standing.announced == key:
            return standing.trouble is None and standing.candidate is None
        now += 30.0
    return False


# Repeatable: what fails in CI must fail at home.
AnyOrder.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, derandomize=True
)
TestAnyOrder = AnyOrder.TestCase

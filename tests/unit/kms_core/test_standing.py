"""One test for each rule in the docstring of ``kms_core.standing``."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from kms_core.errors import (
    AnswerTooLarge,
    ApprovalNeeded,
    CredentialRefused,
    InternalFault,
    KeyCompromised,
    KeyDeactivated,
    KeyDestroyed,
    KeyDisabled,
    KeyNotActive,
    KeyNotFound,
    KeyUnsuitable,
    KmsError,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
    ProviderUntrusted,
    RequestRefused,
    SealedSeedNotAuthentic,
)
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
)
from kms_core.transitions import step


A = AnnouncedKey("a", "sdkms.v1:a")
B = AnnouncedKey("b", "sdkms.v1:b:a")
C = AnnouncedKey("c", "sdkms.v1:c:b")
A_AGAIN = AnnouncedKey("a", "sdkms.v1:a:b")

DAY_S = 24 * 3600.0
REFUSALS = [
    CredentialRefused,
    PermissionRefused,
    ApprovalNeeded,
    RequestRefused,
    KeyNotFound,
    KeyNotActive,
    KeyDeactivated,
    KeyUnsuitable,
]
DENIALS = [KeyDisabled, KeyCompromised, KeyDestroyed]
OUTAGES = [
    ProviderUnreachable,
    ProviderUntrusted,
    ProviderTimeout,
    ProviderThrottling,
    ProviderFaulty,
    ProviderAnswerRefused,
    # What says nothing of the key is as good as an outage when a look meets it.
    InternalFault,
    SealedSeedNotAuthentic,
    AnswerTooLarge,
]


class Story:
    """Feeds observations to ``step`` and keeps the time."""

    def __init__(self, standing: Standing | None = None, **policy: Any) -> None:
        self.policy = Policy(**policy)
        self.now = 1000.0
        self.standing = Standing() if standing is None else standing
        self._action: Action | None = None

    def sees(self, observation: Observation, *, after_s: float = 0.0) -> Story:
        self.now += after_s
        result = step(self.standing, observation, self.now, self.policy)
        self.standing, self._action = result.standing, result.action
        return self

    def looks(
        self, key: AnnouncedKey, *, after_s: float = 0.0, replaced: str | None = None
    ) -> Story:
        return self.sees(Looked(key, replaced), after_s=after_s)

    def fails_to_look(self, error: KmsError, *, after_s: float = 0.0) -> Story:
        return self.sees(LookFailed(error), after_s=after_s)

    def proves(self, key: AnnouncedKey) -> Story:
        return self.sees(Proved(key, by_probe=True))

    def announces(self, key: AnnouncedKey, *, replaced: str | None = None) -> Story:
        return (
            self.looks(key, replaced=replaced)
            .looks(key, after_s=1.0, replaced=replaced)
            .proves(key)
        )

    def suffers(self, error: KmsError, times: int = 4, every_s: float = 30.0) -> Story:
        for _ in range(times):
            self.fails_to_look(error, after_s=every_s)
        return self

    # Methods, since mypy takes a property for something that stays what it was.
    def phase(self) -> Phase:
        return self.standing.phase

    def action(self) -> Action | None:
        return self._action

    @property
    def announced(self) -> AnnouncedKey | None:
        return self.standing.announced


def ready(**policy: Any) -> Story:
    story = Story(**policy).announces(A)
    assert (story.phase(), story.announced) == (Phase.READY, A)
    return story


def coasting(error: KmsError | None = None, **policy: Any) -> Story:
    story = ready(**policy).suffers(error or ProviderUnreachable("x"))
    assert story.phase() is Phase.COASTING
    return story


def denied() -> Story:
    story = ready().suffers(KeyDisabled("x"), times=2)
    assert story.phase() is Phase.DENIED
    return story


def degraded() -> Story:
    story = ready(on_outage=OnTrouble.FAIL, on_refused=OnTrouble.FAIL)
    story.suffers(ProviderUnreachable("x"))
    assert story.phase() is Phase.DEGRADED
    return story


# The start.


def test_nothing_is_announced_before_a_proof() -> None:
    story = Story().looks(A)
    assert story.action() == LookAgain(0.0)
    story.looks(A)
    assert story.action() == Probe(A)
    assert (story.phase(), story.announced) == (Phase.STARTING, None)
    story.proves(A)
    assert (story.phase(), story.announced) == (Phase.READY, A)
    assert story.action() is None


@pytest.mark.parametrize("cls", [*OUTAGES, *REFUSALS, *DENIALS])
def test_trouble_at_the_start_leaves_starting_and_says_why(cls: type[KmsError]) -> None:
    story = Story().suffers(cls("why"), times=10)
    assert story.phase() is Phase.STARTING
    assert story.standing.trouble is not None
    assert story.standing.trouble.error.text() == cls("why").text()


def test_a_failed_probe_at_the_start_is_the_news_and_begins_anew() -> None:
    story = Story().looks(A).looks(A).sees(UseFailed(A, PermissionRefused("no")))
    assert story.phase() is Phase.STARTING
    assert story.standing.trouble is not None
    assert story.standing.candidate is None
    assert story.action() == LookAgain(1.0, renewed=True)
    story.announces(A)
    assert story.phase() is Phase.READY
    assert story.standing.trouble is None


def test_another_key_before_the_first_proof_begins_anew() -> None:
    story = Story().looks(A).looks(B)
    assert story.action() == LookAgain(0.0)
    assert story.looks(B).action() == Probe(B)


# Explicit words.


@pytest.mark.parametrize("cls", DENIALS)
def test_two_agreeing_denials_deny(cls: type[KmsError]) -> None:
    story = ready().fails_to_look(cls("x"))
    assert story.phase() is Phase.READY
    assert story.action() == LookAgain(1.0, renewed=True)
    story.fails_to_look(cls("x"), after_s=1.0)
    assert story.phase() is Phase.DENIED
    assert story.announced == A
    assert isinstance(story.standing.denial, cls)


def test_two_different_denials_do_not_agree() -> None:
    story = ready().fails_to_look(KeyDisabled("x")).fails_to_look(KeyCompromised("x"))
    assert story.phase() is Phase.READY
    assert story.fails_to_look(KeyCompromised("x")).phase() is Phase.DENIED


def test_a_good_look_between_two_denials_forgets_the_first() -> None:
    story = ready().fails_to_look(KeyDisabled("x")).looks(A)
    assert story.standing.trouble is None
    assert story.fails_to_look(KeyDisabled("x")).phase() is Phase.READY


def test_denials_count_in_every_phase_with_a_key() -> None:
    for story in (coasting(), degraded()):
        assert story.suffers(KeyDisabled("x"), times=2).phase() is Phase.DENIED


@pytest.mark.parametrize(
    "error", [ProviderUnreachable("x"), KeyDeactivated("x"), CredentialRefused("x")]
)
def test_only_a_proof_ends_denied(error: KmsError) -> None:
    story = denied().suffers(error, times=10)
    assert story.phase() is Phase.DENIED
    denial = story.standing.denial
    assert isinstance(denial, KeyDisabled)
    story.looks(A)
    assert (story.phase(), story.action()) == (Phase.DENIED, Probe(A))
    healed = story.proves(A).standing
    assert (healed.phase, healed.denial, healed.trouble) == (Phase.READY, None, None)


def test_a_later_denial_takes_the_place_of_an_earlier() -> None:
    story = denied().suffers(KeyDestroyed("x"), times=2)
    assert isinstance(story.standing.denial, KeyDestroyed)


def test_another_key_takes_the_place_of_a_denied_one() -> None:
    story = denied().announces(B, replaced="a")
    assert (story.phase(), story.announced) == (Phase.READY, B)
    assert story.standing.denial is None


# Outages.


@pytest.mark.parametrize("cls", OUTAGES)
def test_an_outage_counts_after_three_looks_over_60_s(cls: type[KmsError]) -> None:
    story = ready()
    for _ in range(2):
        story.fails_to_look(cls("x"), after_s=30.0)
        assert (story.phase(), story.action()) == (Phase.READY, None)
    story.fails_to_look(cls("x"), after_s=29.0)
    assert story.phase() is Phase.READY
    story.fails_to_look(cls("x"), after_s=1.0)
    assert story.phase() is Phase.COASTING
    assert story.announced == A


def test_a_good_look_at_another_key_ends_an_outage_but_no_refusal_of_ours() -> None:
    story = ready().suffers(ProviderUnreachable("x"), times=2).looks(B)
    assert story.standing.trouble is None
    story.fails_to_look(KeyDisabled("x")).looks(B).fails_to_look(KeyDisabled("x"))
    assert story.phase() is Phase.DENIED


def test_many_failed_looks_in_less_than_60_s_do_not_count() -> None:
    assert ready().suffers(ProviderFaulty("x"), 50, every_s=1.0).phase() is Phase.READY


def test_two_failed_looks_do_not_count_however_far_apart() -> None:
    assert (
        ready().suffers(ProviderFaulty("x"), 2, every_s=3600.0).phase() is Phase.READY
    )


def test_outages_of_several_kinds_agree() -> None:
    story = ready()
    for error in (
        ProviderUnreachable("x"),
        ProviderTimeout("x"),
        ProviderThrottling("x"),
    ):
        story.fails_to_look(error, after_s=31.0)
    assert story.phase() is Phase.COASTING


def test_failed_encrypts_between_failed_looks_do_not_begin_the_count_anew() -> None:
    story = ready()
    for _ in range(3):
        story.fails_to_look(ProviderUnreachable("x"), after_s=31.0)
        story.sees(UseFailed(A, ProviderFaulty("x"), by_probe=False))
    assert story.phase() is Phase.COASTING


def test_a_good_look_ends_the_count() -> None:
    story = ready()
    for _ in range(5):
        story.suffers(ProviderUnreachable("x"), times=2, every_s=31.0).looks(A)
    assert story.phase() is Phase.READY


# Refusals.


@pytest.mark.parametrize("cls", REFUSALS)
def test_a_refusal_counts_after_two_agreeing_looks(cls: type[KmsError]) -> None:
    story = ready().fails_to_look(cls("x"))
    assert story.phase() is Phase.READY
    expected = None if cls is CredentialRefused else LookAgain(1.0, renewed=True)
    assert story.action() == expected
    assert story.fails_to_look(cls("x"), after_s=1.0).phase() is Phase.COASTING
    assert story.action() is None


def test_refusals_that_differ_do_not_agree() -> None:
    story = ready()
    for _ in range(5):
        story.fails_to_look(KeyNotFound("x")).fails_to_look(PermissionRefused("x"))
    assert story.phase() is Phase.READY


def test_a_refused_look_and_a_refused_probe_do_not_agree() -> None:
    story = ready().fails_to_look(PermissionRefused("x"))
    story.sees(UseFailed(A, PermissionRefused("x")))
    assert story.phase() is Phase.READY


def test_a_remembered_refusal_of_the_credential_adds_nothing() -> None:
    story = ready().fails_to_look(CredentialRefused("x"))
    before = story.standing
    for _ in range(10):
        story.fails_to_look(CredentialRefused("x", remembered=True), after_s=30.0)
        assert story.standing == before
    assert story.fails_to_look(CredentialRefused("x")).phase() is Phase.COASTING


def test_a_remembered_refusal_that_is_all_that_is_known_is_told() -> None:
    story = Story().fails_to_look(CredentialRefused("x", remembered=True))
    assert story.standing.trouble is not None
    assert story.phase() is Phase.STARTING


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        ({}, ProviderUnreachable("x"), Phase.COASTING),
        ({}, KeyNotFound("x"), Phase.COASTING),
        ({"on_outage": OnTrouble.FAIL}, ProviderUnreachable("x"), Phase.DEGRADED),
        ({"on_outage": OnTrouble.FAIL}, KeyNotFound("x"), Phase.COASTING),
        ({"on_refused": OnTrouble.FAIL}, ProviderUnreachable("x"), Phase.COASTING),
        ({"on_refused": OnTrouble.FAIL}, KeyNotFound("x"), Phase.DEGRADED),
        ({"coast_for_s": 0.0}, KeyNotFound("x"), Phase.DEGRADED),
    ],
)
def test_the_policy_chooses_between_coasting_and_degraded(
    policy: dict[str, Any], error: KmsError, expected: Phase
) -> None:
    assert ready(**policy).suffers(error).phase() is expected


def test_other_trouble_while_coasting_follows_its_own_policy() -> None:
    story = coasting(on_refused=OnTrouble.FAIL)
    assert story.suffers(PermissionRefused("x"), times=2).phase() is Phase.DEGRADED


# Coasting.


def test_coasting_ends_when_its_time_is_spent() -> None:
    story = coasting()
    last_well = story.standing.well_at
    assert last_well is not None
    assert story.standing.coasts_until(story.policy) == last_well + DAY_S
    story.now = last_well + DAY_S - 0.001
    assert story.sees(Ticked()).phase() is Phase.COASTING
    story.now = last_well + DAY_S
    assert story.sees(Ticked()).phase() is Phase.DEGRADED


@pytest.mark.parametrize(
    "observation",
    [
        Ticked(),
        LookFailed(ProviderUnreachable("x")),
        LookFailed(KeyDisabled("x")),
        Looked(A),
        Looked(B),
        UseFailed(B, KeyDisabled("x")),
        Proved(A, by_probe=False),
    ],
)
def test_coasting_ends_in_time_whatever_is_seen_then(observation: Observation) -> None:
    story = coasting().sees(observation, after_s=DAY_S)
    assert story.phase() is Phase.DEGRADED


def test_good_looks_at_ready_move_the_end_of_coasting_on() -> None:
    story = ready()
    first = story.standing.coasts_until(story.policy)
    story.looks(A, after_s=30.0)
    assert first is not None
    assert story.standing.coasts_until(story.policy) == first + 30.0


def test_failed_looks_do_not_move_the_end_of_coasting() -> None:
    story = coasting()
    end = story.standing.coasts_until(story.policy)
    story.suffers(ProviderUnreachable("x"), times=10)
    assert story.standing.coasts_until(story.policy) == end


def test_nothing_ever_seen_well_gives_no_end_of_coasting() -> None:
    assert Standing().coasts_until(Policy()) is None


def test_coasting_on_nothing_is_degraded() -> None:
    restored = Standing(phase=Phase.COASTING, announced=A)
    assert Story(restored).sees(Ticked()).phase() is Phase.DEGRADED


# Announcing.


def test_another_key_is_announced_after_two_equal_looks_and_a_proof() -> None:
    story = ready().looks(B, after_s=30.0, replaced="a")
    assert story.action() == LookAgain(1.0)
    story.looks(B, after_s=1.0, replaced="a")
    assert (story.action(), story.announced) == (Probe(B), A)
    story.proves(B)
    assert (story.phase(), story.announced) == (Phase.READY, B)
    assert story.standing.former_kids == {"a"}


def test_a_proof_by_an_encrypt_announces_nothing() -> None:
    story = ready().looks(B).looks(B).sees(Proved(B, by_probe=False))
    assert story.announced == A


def test_a_proof_that_was_not_asked_for_announces_nothing() -> None:
    assert Story().proves(A).announced is None
    assert ready().proves(B).announced == A
    assert ready().looks(B).proves(B).announced == A


def test_a_look_at_the_announced_key_forgets_the_candidate() -> None:
    story = ready().looks(B).looks(A).looks(B)
    assert story.action() == LookAgain(1.0)


def test_a_third_key_takes_the_place_of_the_candidate() -> None:
    story = ready().looks(B).looks(C)
    assert story.action() == LookAgain(1.0)
    assert story.looks(C).action() == Probe(C)


def test_a_candidate_whose_proof_fails_begins_anew_and_troubles_nobody() -> None:
    story = ready().looks(B).looks(B).sees(UseFailed(B, KeyDisabled("x")))
    assert (story.phase(), story.announced) == (Phase.READY, A)
    assert story.standing.trouble is None
    assert story.action() is None
    assert story.looks(B).action() == LookAgain(1.0)


def test_the_same_kid_with_other_links_is_announced_like_another_key() -> None:
    story = ready().announces(A_AGAIN)
    assert (story.phase(), story.announced) == (Phase.READY, A_AGAIN)


def test_a_former_key_that_replaced_the_announced_one_comes_back_at_once() -> None:
    story = ready().announces(B, replaced="a").announces(A_AGAIN, replaced="b")
    assert story.announced == A_AGAIN


def test_a_former_key_without_links_comes_back_after_looks_that_agree_for_60_s() -> (
    None
):
    story = ready().announces(B, replaced="a")
    story.looks(A).looks(A, after_s=1.0).looks(A, after_s=58.9)
    assert (story.action(), story.announced) == (None, B)
    assert story.proves(A).announced == B
    story.looks(A, after_s=0.1)
    assert story.action() == Probe(A)
    assert story.proves(A).announced == A


def test_nodes_that_lag_do_not_flip_flop() -> None:
    story = ready().announces(B, replaced="a")
    for _ in range(50):
        for key in (A, A, B):
            story.looks(key, after_s=20.0)
            assert not isinstance(story.action(), Probe)
    assert story.announced == B


# Proofs.


def test_a_key_in_trouble_is_proven_before_it_is_ready() -> None:
    for story in (coasting(), degraded(), denied()):
        before = story.phase()
        story.looks(A)
        assert (story.phase(), story.action()) == (before, Probe(A))
        assert story.proves(A).phase() is Phase.READY


def test_a_failed_proof_after_an_outage_leaves_the_phase() -> None:
    story = coasting().looks(A).sees(UseFailed(A, ProviderUnreachable("x")))
    assert story.phase() is Phase.COASTING
    assert story.standing.trouble is not None


def test_looks_prove_again_after_the_probe_interval() -> None:
    story = ready().looks(A, after_s=3599.0)
    assert story.action() is None
    assert story.looks(A, after_s=1.0).action() == Probe(A)
    story.proves(A)
    assert story.looks(A, after_s=30.0).action() is None


def test_an_encrypt_that_succeeds_counts_as_a_proof_while_all_is_well() -> None:
    story = ready().sees(Proved(A, by_probe=False), after_s=3000.0)
    assert story.looks(A, after_s=3000.0).action() is None


def test_an_encrypt_that_succeeds_says_nothing_in_trouble() -> None:
    for story in (
        coasting(),
        degraded(),
        denied(),
        ready().suffers(KeyNotFound("x"), 1),
    ):
        before = story.standing
        assert story.sees(Proved(A, by_probe=False)).standing == before


# Doubtful answers.


@pytest.mark.parametrize("cls", [*OUTAGES, *REFUSALS, *DENIALS])
@pytest.mark.parametrize("by_probe", [True, False])
def test_one_doubtful_answer_moves_no_phase(
    cls: type[KmsError], *, by_probe: bool
) -> None:
    assert ready().fails_to_look(cls("x")).phase() is Phase.READY
    assert (
        ready().sees(UseFailed(A, cls("x"), by_probe=by_probe)).phase() is Phase.READY
    )


@pytest.mark.parametrize("cls", [*REFUSALS, *DENIALS])
def test_refused_encrypts_move_nothing_however_many(cls: type[KmsError]) -> None:
    story = ready()
    for _ in range(100):
        story.sees(UseFailed(A, cls("x"), by_probe=False), after_s=10.0)
    assert story.phase() is Phase.READY
    assert story.standing.trouble is not None
    assert story.standing.trouble.seen == 1


def test_refused_encrypts_do_not_begin_the_count_of_looks_anew() -> None:
    story = ready().fails_to_look(KeyDisabled("x"))
    story.sees(UseFailed(A, PermissionRefused("x"), by_probe=False))
    story.sees(UseFailed(A, ProviderFaulty("x"), by_probe=False))
    assert story.fails_to_look(KeyDisabled("x")).phase() is Phase.DENIED


def test_a_refused_encrypt_asks_for_a_look_on_a_fresh_session() -> None:
    story = ready().sees(UseFailed(A, PermissionRefused("x"), by_probe=False))
    assert story.action() == LookAgain(1.0, renewed=True)
    assert story.looks(A, after_s=1.0).action() == Probe(A)
    story.sees(UseFailed(A, PermissionRefused("x")))
    assert story.phase() is Phase.COASTING


def test_a_good_look_does_not_clear_what_a_use_met() -> None:
    story = ready().sees(UseFailed(A, ProviderFaulty("x"), by_probe=False)).looks(A)
    assert story.standing.trouble is not None
    assert story.action() == Probe(A)
    assert story.proves(A).standing.trouble is None


@pytest.mark.parametrize("cls", [*OUTAGES, *REFUSALS, *DENIALS])
def test_what_is_said_of_another_key_moves_nothing(cls: type[KmsError]) -> None:
    story = ready()
    before = story.standing
    for _ in range(5):
        story.sees(UseFailed(B, cls("x")), after_s=60.0)
        assert (story.standing, story.action()) == (before, None)


def test_what_is_said_of_an_unknown_key_at_the_start_moves_nothing() -> None:
    assert Story().sees(UseFailed(B, KeyDisabled("x"))).standing == Standing()


def test_kept_errors_hold_no_traceback() -> None:
    def fail() -> None:
        raise KeyDisabled("x")

    for observe in (LookFailed, lambda error: UseFailed(A, error)):
        with pytest.raises(KeyDisabled) as caught:
            fail()
        story = ready().sees(observe(caught.value)).sees(observe(caught.value))
        assert story.standing.trouble is not None
        assert story.standing.trouble.error.__traceback__ is None
        assert story.standing.denial is not None
        assert story.standing.denial.__traceback__ is None


def test_a_standing_is_never_changed_in_place() -> None:
    story = ready()
    before, copy = story.standing, evolve(story.standing)
    story.suffers(KeyDisabled("x"), times=3)
    assert before == copy


# A start in an outage, with what an earlier process had proven.


def restarted(*, well_ago_s: float = 600.0, **policy: Any) -> Story:
    remembered = Remembered(A, 1000.0 - well_ago_s)
    return Story(Standing(remembered=remembered), **policy)


@pytest.mark.parametrize("cls", OUTAGES)
def test_a_start_in_an_outage_goes_on_with_the_remembered_key_at_once(
    cls: type[KmsError],
) -> None:
    story = restarted().fails_to_look(cls("x"))
    assert (story.phase(), story.announced) == (Phase.COASTING, A)
    assert story.action() is None


def test_it_ends_when_the_earlier_process_would_have_ended_it() -> None:
    story = restarted(well_ago_s=3600.0).fails_to_look(ProviderUnreachable("x"))
    assert story.standing.coasts_until(story.policy) == 1000.0 - 3600.0 + DAY_S
    story.sees(Ticked(), after_s=DAY_S - 3600.0 - 0.5)
    assert story.phase() is Phase.COASTING
    story.sees(Ticked(), after_s=0.5)
    assert story.phase() is Phase.DEGRADED


def test_well_may_lie_before_this_machine_was_started() -> None:
    # Times are of a monotonic clock, which begins at zero with the machine.
    story = restarted(well_ago_s=5000.0).fails_to_look(ProviderUnreachable("x"))
    assert story.standing.well_at == -4000.0
    assert story.phase() is Phase.COASTING


@pytest.mark.parametrize("cls", REFUSALS)
def test_a_refusal_at_the_start_needs_two_that_agree(cls: type[KmsError]) -> None:
    story = restarted().fails_to_look(cls("x"))
    assert (story.phase(), story.announced) == (Phase.STARTING, None)
    story.fails_to_look(cls("x"), after_s=1.0)
    assert (story.phase(), story.announced) == (Phase.COASTING, A)


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (ProviderUnreachable("x"), {"on_outage": OnTrouble.FAIL}),
        (PermissionRefused("x"), {"on_refused": OnTrouble.FAIL}),
    ],
)
def test_the_policy_decides_at_the_start_as_well(
    error: KmsError, policy: dict[str, Any]
) -> None:
    story = restarted(**policy).suffers(error, times=2, every_s=1.0)
    assert (story.phase(), story.announced) == (Phase.DEGRADED, A)


@pytest.mark.parametrize("well_ago_s", [DAY_S, DAY_S + 1, 30 * DAY_S])
def test_a_remembered_key_that_is_too_old_is_not_gone_on_with(
    well_ago_s: float,
) -> None:
    story = restarted(well_ago_s=well_ago_s).suffers(ProviderUnreachable("x"))
    assert (story.phase(), story.announced) == (Phase.STARTING, None)


@pytest.mark.parametrize("cls", DENIALS)
def test_a_denied_key_is_not_gone_on_with(cls: type[KmsError]) -> None:
    story = restarted().suffers(cls("x"), times=5, every_s=1.0)
    assert (story.phase(), story.announced) == (Phase.STARTING, None)


@pytest.mark.parametrize("kid", [None, "a"])
@pytest.mark.parametrize("error", [ProviderUnreachable("x"), PermissionRefused("x")])
def test_nor_does_an_outage_bring_it_back_after_that(
    error: KmsError, kid: str | None
) -> None:
    story = restarted()
    for _ in range(2):
        story.sees(LookFailed(KeyDisabled("x"), kid), after_s=1.0)
    story.suffers(error)
    assert (story.phase(), story.announced) == (Phase.STARTING, None)
    # A good look is no proof.
    story.looks(A).suffers(error)
    assert (story.phase(), story.announced) == (Phase.STARTING, None)


def test_one_doubtful_word_does_not_take_it_away() -> None:
    story = restarted().fails_to_look(KeyDisabled("x"))
    story.fails_to_look(ProviderUnreachable("x"), after_s=1.0)
    assert (story.phase(), story.announced) == (Phase.COASTING, A)


def test_what_is_said_of_another_key_does_not_take_it_away() -> None:
    story = restarted()
    for _ in range(2):
        story.sees(LookFailed(KeyDisabled("x"), "b"), after_s=1.0)
    story.fails_to_look(ProviderUnreachable("x"), after_s=1.0)
    assert (story.phase(), story.announced) == (Phase.COASTING, A)


def test_it_heals_by_a_look_and_a_proof() -> None:
    story = restarted().fails_to_look(ProviderUnreachable("x")).looks(A)
    assert (story.phase(), story.action()) == (Phase.COASTING, Probe(A))
    story.proves(A)
    assert (story.phase(), story.announced) == (Phase.READY, A)
    assert story.standing.remembered is None


def test_a_rotation_in_the_outage_is_announced_after_two_looks_and_a_proof() -> None:
    story = restarted().fails_to_look(ProviderUnreachable("x")).looks(B, replaced="a")
    assert story.announced == A
    story.looks(B, after_s=1.0, replaced="a")
    assert (story.announced, story.action()) == (A, Probe(B))
    story.proves(B)
    assert (story.phase(), story.announced) == (Phase.READY, B)
    assert story.standing.former_kids == {"a"}


def test_a_look_before_the_outage_does_not_count_for_the_candidate_after_it() -> None:
    story = restarted().looks(B).fails_to_look(ProviderUnreachable("x"))
    assert (story.announced, story.standing.candidate) == (A, None)


def test_a_probe_that_meets_an_outage_at_the_start_goes_on_as_well() -> None:
    story = restarted().looks(A).looks(A).sees(UseFailed(A, ProviderTimeout("x")))
    assert (story.phase(), story.announced) == (Phase.COASTING, A)


def test_a_denial_after_it_went_on_denies_it() -> None:
    story = restarted().fails_to_look(ProviderUnreachable("x"))
    story.suffers(KeyDestroyed("x"), times=2)
    assert story.phase() is Phase.DENIED


def test_a_good_start_has_no_use_for_it() -> None:
    story = restarted().announces(B)
    assert (story.announced, story.standing.remembered) == (B, None)
    assert story.suffers(ProviderUnreachable("x")).announced == B


# What is in memory of a denied key.


@pytest.mark.parametrize("cls", DENIALS)
def test_two_agreeing_denials_drop_what_the_key_protects(cls: type[KmsError]) -> None:
    story = ready().fails_to_look(cls("x"))
    assert story.action() == LookAgain(1.0, renewed=True)
    assert story.fails_to_look(cls("x")).action() == Drop("a")


def test_or_not_if_the_operator_says_so() -> None:
    story = ready(on_denied=OnDenied.KEEP).suffers(KeyDisabled("x"), times=2)
    assert (story.phase(), story.action()) == (Phase.DENIED, None)


@pytest.mark.parametrize("cls", [*OUTAGES, *REFUSALS])
def test_nothing_else_drops_anything(cls: type[KmsError]) -> None:
    story = ready()
    for _ in range(10):
        assert not isinstance(story.fails_to_look(cls("x")).action(), Drop)
        story.now += 30.0


def test_it_is_dropped_once_for_each_word() -> None:
    story = denied()
    assert story.fails_to_look(KeyDisabled("x")).action() is None
    assert story.suffers(KeyDestroyed("x"), times=2).action() == Drop("a")
    assert story.fails_to_look(KeyDestroyed("x")).action() is None


def test_it_is_dropped_again_after_it_was_well() -> None:
    story = denied().looks(A).proves(A)
    assert story.suffers(KeyDisabled("x"), times=2).action() == Drop("a")


def test_before_the_first_proof_it_is_dropped_if_the_look_knows_its_kid() -> None:
    # Seeds were opened although nothing could be announced.
    story = Story()
    story.sees(LookFailed(KeyDisabled("x"), "a"))
    story.sees(LookFailed(KeyDisabled("x"), "a"))
    assert (story.phase(), story.action()) == (Phase.STARTING, Drop("a"))
    assert Story().suffers(KeyDisabled("x"), times=2).action() is None

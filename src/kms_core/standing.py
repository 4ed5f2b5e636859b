"""The state machine of rotation and outages: pure, ``(standing, seen, now) -> step``.

It keeps track of the announced key, of a key that may take its place, and of trouble.

==========  =====================================================  =================
phase       when                                                   Status
==========  =====================================================  =================
STARTING    no key proven since start                              UNAVAILABLE
READY       last look good, key proven                             ok
COASTING    trouble, policy ``coast``, within ``coast_for``        ok
DEGRADED    trouble, policy ``fail``, or the time is spent         UNAVAILABLE
DENIED      the announced key must not be used                     FAILED_PRECONDITION
==========  =====================================================  =================

Rules (design section 7):

- An explicit word that the announced key must not be used (disabled, compromised,
  destroyed) denies it after two agreeing looks. Everything else is trouble.
- Trouble counts after three failed looks over at least 60 s if it is an outage, after
  two agreeing ones if the key service refuses. ``on_outage`` and ``on_refused`` then
  choose between COASTING and DEGRADED.
- A refused Encrypt is a reason to look and no more: many fail in one instant, on one
  session. It begins trouble when there is none, and adds nothing to any.
- Only a proof ends DENIED.
- Coasting ends ``coast_for`` after the key service was last seen well.
- A key is announced only after two equal looks and a proof. One that was announced
  before comes back only if it says that it replaced the announced one, or after looks
  that agree for 60 s: nodes of the key service that lag must not flip-flop.
- A key in trouble is proven again before it is READY. READY proves it again when the
  last proof is older than ``probe_interval``.
- A daemon that starts in an outage goes on with the key that an earlier process had
  proven, if it is told of one: the first failed look then leads to COASTING (or, by
  policy, to DEGRADED), counted from when the key service was last seen well; a refusal
  still needs two that agree. One that was last seen well longer than ``coast_for`` ago
  is not gone on with, nor is one that two looks have called unusable.
- Two looks that deny a key drop what it protects in memory, if ``on_denied`` says so.
- One doubtful answer moves no phase, nor does anything said of another key. A proof
  that no step asked for announces nothing.

Example: after a rotation a look sees kid B while A is announced. B becomes the
candidate and is looked at again after a second; seen twice, it is probed; proven, it
is announced, and Status and Encrypt change from A to B in one replacement.

Times are seconds on one monotonic clock.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from kms_core.errors import CredentialRefused, KmsError, Meaning


if TYPE_CHECKING:
    from kms_core.key_id import AnnouncedKey


class Phase(enum.Enum):
    """Where the daemon stands; see the module's table."""

    STARTING = "starting"
    READY = "ready"
    COASTING = "coasting"
    DEGRADED = "degraded"
    DENIED = "denied"


class OnTrouble(enum.Enum):
    """What trouble does to Status."""

    COAST = "coast"
    FAIL = "fail"


class OnDenied(enum.Enum):
    """What becomes of local KEKs in memory whose key must not be used any more."""

    DROP = "drop"
    KEEP = "keep"


@frozen(kw_only=True)
class Policy:
    """The operator's choices, and the constants of the rules. Durations in seconds."""

    on_outage: OnTrouble = OnTrouble.COAST
    on_refused: OnTrouble = OnTrouble.COAST
    on_denied: OnDenied = OnDenied.DROP
    coast_for_s: float = 24 * 3600.0
    probe_interval_s: float = 3600.0
    outage_looks: int = 3
    outage_span_s: float = 60.0
    agreeing_looks: int = 2
    return_span_s: float = 60.0
    recheck_s: float = 1.0


class Source(enum.Enum):
    """Who saw trouble: a look, or a use of the key (a probe or an Encrypt)."""

    LOOK = "look"
    USE = "use"


@frozen
class Trouble:
    """Errors that agree, one after another.

    Attributes:
        error: The latest.
        source: Who saw it.
        since: When the first was seen.
        seen: How many there were.
    """

    error: KmsError
    source: Source
    since: float
    seen: int

    def agrees(self, error: KmsError, source: Source) -> bool:
        """Return whether *error* says the same again.

        Outages agree whoever met them: else the Encrypts that fail between two failed
        looks would begin the count anew, for ever.
        """
        if meaning_of(self.error) is Meaning.OUTAGE:
            return meaning_of(error) is Meaning.OUTAGE
        return self.source is source and self.error.code == error.code


@frozen
class Candidate:
    """A key that looks have seen in place of the announced one.

    Attributes:
        key: The key.
        since: When the first of the looks saw it.
        looks: How many looks in a row did.
        ripe: Whether only its proof is missing.
    """

    key: AnnouncedKey
    since: float
    looks: int
    ripe: bool = False


@frozen
class Remembered:
    """A key that an earlier process had proven.

    Attributes:
        key: The key.
        well_at: When the key service was last seen well, on our clock; may be negative.
    """

    key: AnnouncedKey
    well_at: float


@frozen(kw_only=True)
class Standing:
    """All that is kept between observations. Immutable: it is replaced, never changed.

    Attributes:
        phase: See the module's table.
        announced: What Status answers and Encrypt uses; None before the first proof.
        proven_at: When the announced key was last proven.
        well_at: When the key service was last seen well.
        trouble: What is wrong, if anything is.
        denial: The word that led to DENIED; None in every other phase.
        candidate: The key that may be announced next.
        former_kids: Keys that were announced before, in this process.
        remembered: A key to go on with if the start falls into an outage.
    """

    phase: Phase = Phase.STARTING
    announced: AnnouncedKey | None = None
    proven_at: float | None = None
    well_at: float | None = None
    trouble: Trouble | None = None
    denial: KmsError | None = None
    candidate: Candidate | None = None
    former_kids: frozenset[str] = field(factory=frozenset)
    remembered: Remembered | None = None

    def coasts_until(self, policy: Policy) -> float | None:
        """Return when coasting ends, or None if nothing was ever seen well."""
        return None if self.well_at is None else self.well_at + policy.coast_for_s


@frozen
class Looked:
    """A look found a key that is fit for use.

    Attributes:
        key: The key and the key_id it would be announced under.
        replaced: The kid that it says it took over from.
    """

    key: AnnouncedKey
    replaced: str | None = None


@frozen
class LookFailed:
    """A look failed, or found the announced key unfit.

    Attributes:
        error: What it failed with.
        kid: The key that it found unfit, if it found one.
    """

    error: KmsError
    kid: str | None = None


@frozen
class Proved:
    """A seed was sealed under *key* and opened again.

    Attributes:
        key: The key.
        by_probe: Whether it was a probe; otherwise an Encrypt, which may have begun
            long before.
    """

    key: AnnouncedKey
    by_probe: bool


@frozen
class UseFailed:
    """A probe or an Encrypt under *key* failed.

    Attributes:
        key: The key.
        error: What it failed with.
        by_probe: Whether it was a probe.
    """

    key: AnnouncedKey
    error: KmsError
    by_probe: bool = True


@frozen
class Ticked:
    """Time has passed."""


Observation = Looked | LookFailed | Proved | UseFailed | Ticked


@frozen
class LookAgain:
    """Look once more, *after_s* seconds from now.

    Attributes:
        after_s: Seconds to wait.
        renewed: Whether on a fresh session and connection.
    """

    after_s: float
    renewed: bool = False


@frozen
class Probe:
    """Prove *key*."""

    key: AnnouncedKey


@frozen
class Drop:
    """Forget what *kid* protects in memory."""

    kid: str


Action = LookAgain | Probe | Drop


@frozen
class Step:
    """What an observation leads to."""

    standing: Standing
    action: Action | None = None


def step(
    standing: Standing, observation: Observation, now: float, policy: Policy
) -> Step:
    """Return where *observation* leads, at *now*, and what to do next."""
    match observation:
        case Looked(key, replaced):
            result = _looked(standing, key, replaced, now, policy)
        case LookFailed(error, kid):
            result = _failed(standing, error, Source.LOOK, now, policy, kid=kid)
        case Proved(key, by_probe):
            result = Step(_proved(standing, key, now, by_probe=by_probe))
        case UseFailed(key, error, by_probe):
            if by_probe or _is_news(standing, error):
                result = _use_failed(standing, key, error, now, policy)
            else:
                result = Step(standing)
        case Ticked():
            result = Step(standing)
    return evolve(result, standing=_timed(result.standing, now, policy))


def _looked(
    standing: Standing,
    key: AnnouncedKey,
    replaced: str | None,
    now: float,
    policy: Policy,
) -> Step:
    trouble = standing.trouble
    if trouble is not None and trouble.source is Source.LOOK:
        outage = meaning_of(trouble.error) is Meaning.OUTAGE
        # Another key's good look ends an outage, but no refusal or denial of ours.
        if key == standing.announced or outage:
            trouble = None
    if key == standing.announced:
        return _looked_at_announced(
            evolve(standing, trouble=trouble, candidate=None), key, now, policy
        )
    known = standing.candidate
    if known is None or known.key != key:
        known = Candidate(key, now, 0)
    candidate = evolve(known, looks=known.looks + 1)
    waiting = evolve(standing, trouble=trouble, candidate=candidate)
    if candidate.looks < policy.agreeing_looks:
        # Nothing is announced yet at the start, so that nothing can flip: no pause.
        pause_s = 0.0 if standing.announced is None else policy.recheck_s
        return Step(waiting, LookAgain(pause_s))
    if _comes_back(standing, key, replaced) and (
        now - candidate.since < policy.return_span_s
    ):
        return Step(waiting)
    ripe = evolve(candidate, ripe=True)
    return Step(evolve(waiting, candidate=ripe), Probe(key))


def _looked_at_announced(
    standing: Standing, key: AnnouncedKey, now: float, policy: Policy
) -> Step:
    steady = standing.phase is Phase.READY and standing.trouble is None
    if not steady:
        return Step(standing, Probe(key))
    seen = evolve(standing, well_at=now)
    if standing.proven_at is None or (
        now - standing.proven_at >= policy.probe_interval_s
    ):
        return Step(seen, Probe(key))
    return Step(seen)


def _comes_back(standing: Standing, key: AnnouncedKey, replaced: str | None) -> bool:
    if key.kid not in standing.former_kids or standing.announced is None:
        return False
    return replaced != standing.announced.kid


def _proved(
    standing: Standing, key: AnnouncedKey, now: float, *, by_probe: bool
) -> Standing:
    if key == standing.announced:
        if by_probe:
            return evolve(
                standing,
                phase=Phase.READY,
                proven_at=now,
                well_at=now,
                trouble=None,
                denial=None,
            )
        if standing.phase is not Phase.READY or standing.trouble is not None:
            # It may have begun before the trouble did: a look and a probe decide.
            return standing
        return evolve(standing, proven_at=now, well_at=now)
    candidate = standing.candidate
    if not by_probe or candidate is None or candidate.key != key or not candidate.ripe:
        return standing
    former = standing.former_kids
    if standing.announced is not None:
        former |= {standing.announced.kid}
    return Standing(
        phase=Phase.READY,
        announced=key,
        proven_at=now,
        well_at=now,
        former_kids=former,
    )


def _is_news(standing: Standing, error: KmsError) -> bool:
    """Return whether a failed Encrypt adds anything to what is known."""
    trouble = standing.trouble
    return trouble is None or (
        meaning_of(error) is meaning_of(trouble.error) is Meaning.OUTAGE
    )


def _use_failed(
    standing: Standing, key: AnnouncedKey, error: KmsError, now: float, policy: Policy
) -> Step:
    if key == standing.announced:
        return _failed(standing, error, Source.USE, now, policy)
    candidate = standing.candidate
    if candidate is None or candidate.key != key:
        return Step(standing)
    if standing.announced is None:
        # At the start there is no other key: what the candidate lacks is the news.
        return _failed(evolve(standing, candidate=None), error, Source.USE, now, policy)
    # The announced key goes on; the candidate begins anew at the next look.
    return Step(evolve(standing, candidate=None))


def _failed(  # noqa: PLR0913 - what was seen, by whom, and of which key
    standing: Standing,
    error: KmsError,
    source: Source,
    now: float,
    policy: Policy,
    *,
    kid: str | None = None,
) -> Step:
    known = standing.trouble
    if isinstance(error, CredentialRefused) and error.remembered and known is not None:
        # Nobody was asked, so that nothing was learnt.
        return Step(standing)
    kept = error.without_traceback()
    if known is None or not known.agrees(error, source):
        known = Trouble(kept, source, now, 0)
    trouble = Trouble(kept, source, known.since, known.seen + 1)
    troubled = evolve(standing, trouble=trouble)
    outage = meaning_of(kept) is Meaning.OUTAGE
    counts = _counts(trouble, now, policy)
    if outage or counts:
        resumed = _resumed(troubled, trouble, now, policy)
        if resumed is not None:
            return Step(resumed)
    if counts:
        return _troubled(troubled, trouble, kid, policy)
    if outage or isinstance(error, CredentialRefused):
        # The timer alone: an outage needs time, and refused logins are counted.
        return Step(troubled)
    return Step(troubled, LookAgain(policy.recheck_s, renewed=True))


def _resumed(
    standing: Standing, trouble: Trouble, now: float, policy: Policy
) -> Standing | None:
    """Return *standing* with the remembered key, if this start is to go on with it."""
    remembered = standing.remembered
    if standing.announced is not None or remembered is None:
        return None
    if meaning_of(trouble.error) is Meaning.DENIED:
        return None
    if now >= remembered.well_at + policy.coast_for_s:
        # Too old: nothing is known of what became of it since.
        return None
    resumed = evolve(
        standing,
        announced=remembered.key,
        well_at=remembered.well_at,
        candidate=None,
        remembered=None,
    )
    return evolve(resumed, phase=_phase_by_policy(trouble, policy))


def _troubled(
    standing: Standing, trouble: Trouble, kid: str | None, policy: Policy
) -> Step:
    phase = _phase_in_trouble(standing, trouble, policy)
    if meaning_of(trouble.error) is not Meaning.DENIED:
        return Step(evolve(standing, phase=phase))
    if standing.announced is not None:
        kid = standing.announced.kid
        standing = evolve(standing, phase=phase, denial=trouble.error)
    elif standing.remembered is not None and (
        kid in (None, standing.remembered.key.kid)
    ):
        # An outage that follows must not bring it back.
        standing = evolve(standing, remembered=None)
    # At the moment that it begins to count, also in DENIED: another word than before.
    begins = trouble.seen == policy.agreeing_looks
    if begins and kid is not None and policy.on_denied is OnDenied.DROP:
        return Step(standing, Drop(kid))
    return Step(standing)


def _counts(trouble: Trouble, now: float, policy: Policy) -> bool:
    if meaning_of(trouble.error) is Meaning.OUTAGE:
        return (
            trouble.seen >= policy.outage_looks
            and now - trouble.since >= policy.outage_span_s
        )
    return trouble.seen >= policy.agreeing_looks


def _phase_in_trouble(standing: Standing, trouble: Trouble, policy: Policy) -> Phase:
    if standing.announced is None:
        return standing.phase
    if meaning_of(trouble.error) is Meaning.DENIED:
        return Phase.DENIED
    if standing.phase not in (Phase.READY, Phase.COASTING):
        return standing.phase
    return _phase_by_policy(trouble, policy)


def _phase_by_policy(trouble: Trouble, policy: Policy) -> Phase:
    outage = meaning_of(trouble.error) is Meaning.OUTAGE
    choice = policy.on_outage if outage else policy.on_refused
    return Phase.DEGRADED if choice is OnTrouble.FAIL else Phase.COASTING


def _timed(standing: Standing, now: float, policy: Policy) -> Standing:
    """End coasting when its time is spent, also when it would begin just now."""
    ends = standing.coasts_until(policy)
    if standing.phase is Phase.COASTING and (ends is None or now >= ends):
        return evolve(standing, phase=Phase.DEGRADED)
    return standing


def meaning_of(error: KmsError) -> Meaning:
    """Return what *error* says of the announced key, when a look or a use met it.

    A key service that answers wrongly (a fresh seed that is not authentic, say) is as
    good as away.
    """
    return Meaning.OUTAGE if error.meaning is Meaning.CALL else error.meaning

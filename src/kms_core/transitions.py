"""The rules of ``standing`` as one pure function: ``step``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from kms_core.errors import CredentialRefused, KmsError, Meaning
from kms_core.standing import (
    Candidate,
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
    Source,
    Standing,
    Step,
    Ticked,
    Trouble,
    UseFailed,
    meaning_of,
)


if TYPE_CHECKING:
    from kms_core.key_id import AnnouncedKey


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

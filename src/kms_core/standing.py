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

Times are seconds on one monotonic clock. The function itself is in ``transitions``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import field, frozen

from kms_core.errors import KmsError, Meaning


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


def meaning_of(error: KmsError) -> Meaning:
    """Return what *error* says of the announced key, when a look or a use met it.

    A key service that answers wrongly (a fresh seed that is not authentic, say) is as
    good as away.
    """
    return Meaning.OUTAGE if error.meaning is Meaning.CALL else error.meaning

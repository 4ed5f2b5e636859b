"""Trying again within a call's deadline: DSM's calls that we use are safe to repeat.

An attempt gets 60 % of the time that is left, at least 1 s: of kube-apiserver's 3 s a
hung connection takes 1.8, and a second attempt has 1 s and a little. Where there are
several endpoints it leaves the same time for each of the others. Between attempts: full
jitter, 50 ms at first, doubling up to 1 s, or as long as DSM asks for; but none before
another endpoint is tried. When the next attempt would begin too late, the last real
error is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from adapters_dsm.exchange import Attempt
from adapters_dsm.failures import AttemptFailed
from kms_core.errors import KmsError, ProviderTimeout


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kms_core.ports import Clock, Randomness


T = TypeVar("T")

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 1.0
ATTEMPT_SHARE: Final = 0.6
SHORTEST_ATTEMPT_S: Final = 1.0

_USEFUL_S = 0.05
"""An attempt with less time than this is not begun."""

_MARGIN_S = 0.02
_MARGIN_SHARE = 0.05


class Retries:
    """Runs the attempts of calls.

    Args:
        clock: Time, and the sleep between attempts.
        randomness: Jitter.
    """

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._randomness = randomness

    async def run(
        self,
        attempt: Callable[[Attempt], Awaitable[T]],
        deadline: float,
        endpoints: int = 1,
    ) -> T:
        """Return what the first good attempt returns.

        Args:
            attempt: Makes one attempt; raises AttemptFailed.
            deadline: When the caller gives up. We give up a little earlier, so that it
                is the real error that the caller sees.
            endpoints: How many there are to try.

        Raises:
            KmsError: The error of the last attempt that failed by itself.
        """
        left_s = deadline - self._clock.monotonic()
        if left_s <= 0:
            raise ProviderTimeout("the deadline had passed before DSM was asked")
        ends_at = deadline - min(_MARGIN_S, left_s * _MARGIN_SHARE)
        try:
            # tenacity takes 26 us, so a call that succeeds at once goes without it.
            return await attempt(self._attempt(1, ends_at, endpoints, fresh=False))
        except AttemptFailed as failure:
            failed = failure
        if not _is_worth_repeating(failed):
            raise failed.error
        outcome = await self._run_again(attempt, ends_at, failed, endpoints)
        if isinstance(outcome, KmsError):
            raise outcome
        return outcome

    async def _run_again(
        self,
        attempt: Callable[[Attempt], Awaitable[T]],
        ends_at: float,
        failed: AttemptFailed,
        endpoints: int,
    ) -> T | KmsError:
        number = 1
        last = failed

        async def again() -> T:
            nonlocal number, last
            number += 1
            if number == 2:  # noqa: PLR2004 - tenacity's first is the failed one
                raise failed
            try:
                # Connections to another endpoint are not suspect.
                fresh = last.answer is None and not last.elsewhere
                return await attempt(
                    self._attempt(number - 1, ends_at, endpoints, fresh=fresh)
                )
            except AttemptFailed as failure:
                if isinstance(failure.error, ProviderTimeout):
                    # The time is up; what came before says more than that.
                    raise last from None
                last = failure
                raise

        retrying = AsyncRetrying(
            sleep=self._clock.sleep,
            wait=self._wait_s,
            stop=lambda state: self._is_over(state, ends_at),
            retry=retry_if_exception(_is_worth_repeating),
            reraise=True,
        )
        try:
            return await retrying(again)
        except AttemptFailed as failure:
            return failure.error

    def _attempt(
        self, number: int, ends_at: float, endpoints: int, *, fresh: bool
    ) -> Attempt:
        now = self._clock.monotonic()
        untried = max(1, endpoints - number + 1)
        share = min(ATTEMPT_SHARE, 1 / untried)
        share_s = max(SHORTEST_ATTEMPT_S, (ends_at - now) * share)
        last = now + share_s >= ends_at
        return Attempt(number, ends_at if last else now + share_s, last, fresh)

    def _wait_s(self, state: RetryCallState) -> float:
        failure = _failure(state)
        if failure.elsewhere:
            return 0.0
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        wait_s = self._randomness.uniform(0.0, longest_s)
        asked_s = failure.retry_after_s
        return wait_s if asked_s is None else max(wait_s, asked_s)

    def _is_over(self, state: RetryCallState, ends_at: float) -> bool:
        begins_at = self._clock.monotonic() + state.upcoming_sleep
        return begins_at + _USEFUL_S >= ends_at


def _failure(state: RetryCallState) -> AttemptFailed:
    error = None if state.outcome is None else state.outcome.exception()
    if not isinstance(error, AttemptFailed):
        raise AssertionError("tenacity waits only after a failure")  # noqa: TRY004
    return error


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, AttemptFailed) and (
        error.elsewhere or error.error.retryable
    )

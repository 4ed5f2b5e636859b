"""What several checks expect, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.outcome import CallFailed, Failed, shown, shown_bytes
from kms_conformance.recorder import percentile


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kms_conformance.context import Context
    from kms_conformance.http2 import RawAnswer


async def refused(call: Awaitable[object], *, sent: str = "") -> CallFailed:
    """Return the plugin's refusal: a code other than OK, from the plugin, in time.

    Args:
        call: The call that must be refused.
        sent: What it sends, where a check sends several things.

    Raises:
        Failed: It was answered, or hung.
    """
    try:
        answer = await call
    except CallFailed as failure:
        return _in_time(failure, sent)
    came = shown_bytes(answer) if isinstance(answer, bytes) else "an answer"
    raise Failed(f"OK with {came} instead of an error", sent=sent)


async def exact_or_refused(
    call: Awaitable[bytes], plaintext: bytes, *, sent: str = ""
) -> bool:
    """Return whether Decrypt gave *plaintext*; else it refused. Never other bytes.

    Raises:
        Failed: Other bytes came, or the call hung.
    """
    try:
        came = await call
    except CallFailed as failure:
        _in_time(failure, sent)
        return False
    same(came, plaintext, sent=sent)
    return True


async def opened(call: Awaitable[bytes], plaintext: bytes, *, sent: str) -> None:
    """Demand that Decrypt gives *plaintext*; an error names what was sent.

    Raises:
        Failed: It did not.
    """
    try:
        came = await call
    except CallFailed as failure:
        raise Failed(str(failure), sent=sent) from None
    same(came, plaintext, sent=sent)


def same(came: bytes, plaintext: bytes, *, sent: str = "") -> None:
    """Demand that Decrypt gave back *plaintext*.

    Raises:
        Failed: It gave something else.
    """
    if came != plaintext:
        raise Failed(
            f"OK with {shown_bytes(came)} instead of {shown_bytes(plaintext)}",
            sent=sent,
        )


def grpc_ok(answer: RawAnswer, *, sent: str = "") -> None:
    """Demand that a call by hand was answered with OK.

    Raises:
        Failed: It was not.
    """
    code = answer.header("grpc-status")
    if code == "0":
        return
    text = answer.header("grpc-message") or ""
    ended = f"RST_STREAM {answer.reset}" if code is None else f"grpc-status {code}"
    raise Failed(f"{ended}: {shown(text)}" if text else ended, sent=sent)


def quick_enough(
    kit: Context, method: str, *, p99_ms: float, p50_ms: float | None = None
) -> None:
    """Measure this check's answered calls of *method*, and warn of slow ones.

    That no call took longer than the deadline needs no word: it would have failed.

    Args:
        kit: The check's context.
        method: ``Status``, ``Encrypt`` or ``Decrypt``.
        p99_ms: 99th percentile in milliseconds that should hold.
        p50_ms: Median in milliseconds that should hold, if any.
    """
    durations_s = kit.recorder.durations_s(method)
    for percent, limit_ms in ((50, p50_ms), (99, p99_ms)):
        found_ms = 1000 * percentile(durations_s, percent)
        kit.measure(f"{method} p{percent}", round(found_ms, 2), "ms")
        if limit_ms is not None and found_ms > limit_ms:
            kit.warn(f"{method}: p{percent} {found_ms:.1f} ms, over {limit_ms:g} ms")


def _in_time(failure: CallFailed, sent: str) -> CallFailed:
    if failure.code == "OK" or failure.no_answer:
        raise Failed(str(failure), sent=sent) from None
    return failure

"""Answers that DSM must not give: coded one-line errors, no secret, and it heals."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.contract.daemon.support import (
    DECRYPT,
    ENCRYPT,
    INFO,
    LOGIN,
    one_line_problem,
)

from adapters_grpc.client import CallFailed
from dsm_emulator import Fault, FaultKind


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.contract.daemon.support import Lab


INJECTED: Final = "injected-by-the-other-side"
TRAP: Final = "/trap"


def base64_of(size: int) -> str:
    """Return *size* bytes in base64."""
    return base64.b64encode(b"x" * size).decode()


ANYWHERE: Final[list[dict[str, Any]]] = [
    {"kind": "wrong-kid"},
    {"kind": "not-json"},
    {"kind": "truncated-json"},
    {"kind": "huge-body", "size": 3_000_000},
    {"kind": "redirect"},
    {"kind": "redirect", "status": 302},
    {"kind": "reset"},
    *[{"kind": "status", "status": s} for s in (201, 204, 400, 418, 500, 503)],
    {"kind": "status", "status": 500, "body": "html"},
    {"kind": "status", "status": 400, "body": "huge", "size": 3_000_000},
    {"kind": "set-field", "field": "kid", "value": 5},
]
_IN_ENCRYPT: Final[dict[str, tuple[object, ...]]] = {
    "iv": (base64_of(1), base64_of(0), "*", 5, None, []),
    "tag": (base64_of(15), base64_of(17), "****"),
    "cipher": (base64_of(31), base64_of(33), INJECTED),
}
IN_ENCRYPT: Final[list[dict[str, Any]]] = [
    *[{"kind": "drop-field", "field": field} for field in ("kid", *_IN_ENCRYPT)],
    *[
        {"kind": "set-field", "field": field, "value": value}
        for field, values in _IN_ENCRYPT.items()
        for value in values
    ],
]
IN_DECRYPT: Final[list[dict[str, Any]]] = [
    {"kind": "drop-field", "field": "plain"},
    *[
        {"kind": "set-field", "field": "plain", "value": value}
        for value in (base64_of(31), base64_of(33), base64_of(0), "*", INJECTED, 5)
    ],
]


def fault(lab: Lab, path: str, described: dict[str, Any]) -> Fault:
    """Return the fault, with what would show if it were passed on."""
    more: dict[str, Any] = {"path": path, "text": INJECTED}
    if described["kind"] == "redirect":
        more["location"] = f"{lab.server.url}{TRAP}?{INJECTED}"
    return Fault(**{"status": None} | described | more)


async def require_coded(call: Awaitable[object], described: dict[str, Any]) -> None:
    """Check how an Encrypt or Decrypt that meets the armed fault fails."""
    with pytest.raises(CallFailed) as caught:
        await call
    text = caught.value.text
    assert one_line_problem(text) is None
    # DSM answers 400 to a tag that is wrong.
    codes = ("DSM-", "SEALED-") if described.get("status") == 400 else ("DSM-",)
    assert text.startswith(codes), described
    assert INJECTED not in text
    assert TRAP not in text
    assert caught.value.code_name != "UNKNOWN"


@pytest.mark.parametrize("path", [ENCRYPT, DECRYPT])
async def test_hostile_answer_is_a_coded_error_and_leaves_no_trace(
    lab: Lab, path: str
) -> None:
    # Direct, so that each call is one of DSM as well.
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client(1.0) as client:
        sealed = await client.encrypt(seed)
        for described in ANYWHERE + (IN_ENCRYPT if path == ENCRYPT else IN_DECRYPT):
            armed = fault(lab, path, described)
            lab.dsm.faults.add(armed)
            try:
                if path == ENCRYPT:
                    await require_coded(client.encrypt(seed), described)
                else:
                    call = client.decrypt(sealed.ciphertext, sealed.key_id)
                    await require_coded(call, described)
            finally:
                lab.dsm.faults.clear()
        again = await client.encrypt(seed)
        assert await client.decrypt(again.ciphertext, again.key_id) == seed
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
    assert (await daemon.status()).healthz == "ok"
    assert lab.dsm.journal.count(TRAP) == 0
    assert INJECTED not in daemon.text()
    assert daemon.process.poll() is None


async def test_forged_ciphertext_never_opens(shared: Lab) -> None:
    async with shared.daemon.client() as client:
        sealed = await client.encrypt(shared.seed())
        for position in range(0, len(sealed.ciphertext), 7):
            forged = bytearray(sealed.ciphertext)
            forged[position] ^= 1
            with pytest.raises(CallFailed) as caught:
                await client.decrypt(bytes(forged), sealed.key_id)
            assert one_line_problem(caught.value.text) is None


@pytest.mark.parametrize(
    ("path", "described"),
    [
        (LOGIN, {"kind": "drop-field", "field": "access_token"}),
        (LOGIN, {"kind": "set-field", "field": "access_token", "value": "a\nb"}),
        (INFO, {"kind": "set-field", "field": "kid", "value": INJECTED}),
        (INFO, {"kind": "not-json"}),
    ],
    ids=["no-token", "token-with-line-break", "odd-kid", "not-json"],
)
async def test_hostile_answer_at_start_is_said_and_heals(
    lab: Lab, path: str, described: dict[str, Any]
) -> None:
    lab.dsm.faults.add(fault(lab, path, described))
    daemon = lab.start()
    failure = await daemon.await_failure("DSM-ANSWER-REFUSED")
    assert one_line_problem(failure.text) is None
    assert INJECTED not in failure.text
    lab.dsm.faults.clear()
    daemon.hang_up()
    await daemon.await_ok()
    assert INJECTED not in daemon.text()


async def test_dead_session_is_replaced_within_the_call(shared: Lab) -> None:
    async with shared.daemon.client() as client:
        shared.dsm.kill_sessions()
        sealed = await client.encrypt(shared.seed())
        shared.dsm.faults.add(Fault(FaultKind.SESSION_LOST, path=DECRYPT, count=1))
        assert len(await client.decrypt(sealed.ciphertext, sealed.key_id)) == 32

"""One call of kube-apiserver can be found in DSM's audit log: uid and X-Request-Id."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tests.contract.daemon.support import DECRYPT, ENCRYPT, INFO, LOGIN

from dsm_emulator import Fault, FaultKind


if TYPE_CHECKING:
    from tests.contract.daemon.support import Daemon, Lab


def requests_of(daemon: Daemon, uid: str) -> list[dict[str, Any]]:
    """Return the lines on the requests to DSM that served a call, at its end."""
    daemon.await_line(event="kms call", uid=uid)
    return daemon.lines(event="dsm call", uid=uid)


def audited(lab: Lab, request_id: str) -> tuple[str, int | None]:
    """Return path and status of the one request that DSM gave this id."""
    (entry,) = [e for e in lab.dsm.journal.entries if e.request_id == request_id]
    return entry.path, entry.status


async def test_each_request_for_a_call_stands_beside_its_uid_at_the_default_level(
    lab: Lab,
) -> None:
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    sealing, opening = str(uuid.uuid4()), str(uuid.uuid4())
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed(), uid=sealing)
        await client.decrypt(sealed.ciphertext, sealed.key_id, uid=opening)
    lines = requests_of(daemon, sealing)
    # What was sealed is opened once before it is given out.
    assert [line["operation"] for line in lines] == ["encrypt", "decrypt"]
    found = [audited(lab, line["request_id"]) for line in lines]
    assert found == [(ENCRYPT, 200), (DECRYPT, 200)]
    assert {line["kid"] for line in lines} == {lab.demo.key.kid}
    (line,) = requests_of(daemon, opening)
    assert audited(lab, line["request_id"]) == (DECRYPT, 200)
    assert lab.dsm.journal.count(INFO) > 0
    assert not daemon.lines(operation="describe"), "looks serve no call"


async def test_each_attempt_has_a_line_of_its_own(lab: Lab) -> None:
    daemon = lab.start(protection="direct", log_level="debug")
    await daemon.await_ok()
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed())
        lab.dsm.faults.add(Fault(FaultKind.RESET, path=DECRYPT, count=1))
        lab.dsm.faults.add(Fault(FaultKind.STATUS, path=DECRYPT, status=503, count=1))
        uid = str(uuid.uuid4())
        await client.decrypt(sealed.ciphertext, sealed.key_id, uid=uid)
    lines = requests_of(daemon, uid)
    assert [line["attempt"] for line in lines] == [1, 2, 3]
    cut, failed, served = lines
    assert cut["error"] == "DSM-UNREACHABLE"
    assert not cut.keys() & {"request_id", "http_status"}
    assert audited(lab, failed["request_id"]) == (DECRYPT, 503)
    assert (failed["level"], failed["error"]) == ("warning", "DSM-FAULTY")
    assert audited(lab, served["request_id"]) == (DECRYPT, 200)
    looks = daemon.lines(event="dsm call", operation="describe")
    assert {line["level"] for line in looks} == {"debug"}
    assert not [line for line in looks if "uid" in line]


async def test_login_for_a_call_is_that_call_s(lab: Lab) -> None:
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed())
        lab.dsm.kill_sessions()
        uid = str(uuid.uuid4())
        await client.decrypt(sealed.ciphertext, sealed.key_id, uid=uid)
    lines = requests_of(daemon, uid)
    found = [audited(lab, line["request_id"]) for line in lines]
    assert found == [(DECRYPT, 401), (LOGIN, 200), (DECRYPT, 200)]


async def test_unwrapping_a_local_kek_is_the_first_call_s(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed())
    assert daemon.stop() == 0
    daemon = lab.start()
    await daemon.await_ok()
    cold, warm = str(uuid.uuid4()), str(uuid.uuid4())
    async with daemon.client() as client:
        for uid in (cold, warm):
            await client.decrypt(sealed.ciphertext, sealed.key_id, uid=uid)
    (line,) = requests_of(daemon, cold)
    assert audited(lab, line["request_id"]) == (DECRYPT, 200)
    assert requests_of(daemon, warm) == []


async def test_dsm_without_request_ids_is_served_as_well(lab: Lab) -> None:
    lab.dsm.sends_request_id = False
    daemon = lab.start(protection="direct")
    await daemon.await_ok()
    uid = str(uuid.uuid4())
    async with daemon.client() as client:
        await client.encrypt(lab.seed(), uid=uid)
    assert [line.get("request_id") for line in requests_of(daemon, uid)] == [None, None]

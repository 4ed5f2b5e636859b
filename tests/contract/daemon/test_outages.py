"""What a daemon with a local KEK does while DSM is away, refuses or denies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.contract.daemon.support import DECRYPT, ENCRYPT, eventually

from adapters_grpc.client import CallFailed


if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.daemon.support import Daemon, Lab


async def call_ok(daemon: Daemon, seed: bytes) -> bool:
    """Return whether *seed* goes through Encrypt and Decrypt."""
    async with daemon.client() as client:
        try:
            sealed = await client.encrypt(seed)
            return await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
        except CallFailed:
            return False


async def test_warm_calls_ask_dsm_nothing_and_go_on_without_it(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    lab.dsm.journal.clear()
    assert await call_ok(daemon, lab.seed())
    assert lab.dsm.journal.count(ENCRYPT) == lab.dsm.journal.count(DECRYPT) == 0
    lab.server.stop()
    assert await call_ok(daemon, lab.seed())
    assert (await daemon.await_ok()).healthz == "ok"


async def test_restart_with_a_state_folder_uses_the_local_kek_again(
    lab: Lab, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    daemon = lab.start(state_dir=str(state))
    await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed)
    assert daemon.stop() == 0
    daemon = lab.start(state_dir=str(state))
    await daemon.await_ok()
    lab.dsm.journal.clear()
    async with daemon.client() as client:
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
    assert lab.dsm.journal.count(DECRYPT) == 0
    for file in state.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert seed not in file.read_bytes()


async def test_restart_in_an_outage_goes_on_with_the_proven_key(
    lab: Lab, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    daemon = lab.start(state_dir=str(state))
    key_id = (await daemon.await_ok()).key_id
    eventually(lambda: any(state.glob("*proof*")), "the proof is kept")
    assert daemon.stop() == 0
    lab.server.stop()
    daemon = lab.start(state_dir=str(state))
    assert (await daemon.await_ok()).key_id == key_id
    line = daemon.await_line(event="standing", state="coasting")
    assert line["code"] == "DSM-UNREACHABLE"
    assert line["status_fails_at"]
    lab.server.start()
    daemon.await_line(event="standing", state="ready")
    assert await call_ok(daemon, lab.seed())


async def test_without_a_state_folder_it_waits_for_dsm(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    assert daemon.stop() == 0
    lab.server.stop()
    daemon = lab.start()
    await daemon.await_failure("DSM-UNREACHABLE")
    lab.server.start()
    await daemon.await_ok()


async def test_disabled_key_is_denied_and_forgotten_within_two_looks(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed())
        lab.dsm.disable(lab.demo.key)
        daemon.hang_up()
        failure = await daemon.await_failure("KEY-DISABLED")
        assert failure.code_name == "FAILED_PRECONDITION"
        with pytest.raises(CallFailed, match="PERMISSION_DENIED"):
            await client.decrypt(sealed.ciphertext, sealed.key_id)
        lab.dsm.enable(lab.demo.key)
        daemon.hang_up()
        await daemon.await_ok()
        await client.decrypt(sealed.ciphertext, sealed.key_id)

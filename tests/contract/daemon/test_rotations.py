"""Every way in which a key can change in DSM, and what Status makes of it.

While the key changes, Encrypts and Decrypts go on, and none of them may fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.contract.daemon.support import INFO, KEY_NAME, Lab, eventually

from dsm_emulator.lag import LagPer
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject_request import SobjectRequest


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.contract.daemon.support import Daemon

    from dsm_emulator.sobject import Sobject


def rekey(lab: Lab) -> Sobject:
    return lab.dsm.rekey(KEY_NAME)


def rekey_and_deactivate(lab: Lab) -> Sobject:
    return lab.dsm.rekey(KEY_NAME, deactivate_rotated_key=True)


def let_the_policy_rotate(lab: Lab, *, deactivate: bool) -> Sobject:
    """Move DSM's clock to where its own schedule rotates the key."""
    policy = RotationPolicy(interval_days=90, deactivate_rotated_key=deactivate)
    with lab.dsm.lock:
        lab.dsm.keys.set_rotation_policy(lab.demo.key, policy)
    lab.dsm.clock.advance(timedelta(days=90, minutes=1).total_seconds())
    return lab.dsm.key(name=KEY_NAME)


def scheduled(lab: Lab) -> Sobject:
    return let_the_policy_rotate(lab, deactivate=False)


def scheduled_and_deactivated(lab: Lab) -> Sobject:
    return let_the_policy_rotate(lab, deactivate=True)


def another(lab: Lab, name: str) -> Sobject:
    request = SobjectRequest(name=name, obj_type="AES", key_size=256)
    return lab.dsm.create_key(
        request, creator=lab.demo.admin, group_id=lab.demo.group.group_id
    )


def replace(lab: Lab) -> Sobject:
    new = another(lab, "next")
    with lab.dsm.lock:
        lab.dsm.keys.replace(lab.demo.key, "former", new)
    return new


def rename(lab: Lab) -> Sobject:
    new = another(lab, "next")
    with lab.dsm.lock:
        lab.dsm.keys.rename(lab.demo.key, "former")
        lab.dsm.keys.rename(new, KEY_NAME)
    return new


@contextlib.asynccontextmanager
async def calls_going_on(daemon: Daemon, lab: Lab) -> AsyncIterator[None]:
    """Seal and open all the time; a call that fails fails the test."""
    done = asyncio.Event()

    async def work() -> None:
        seed = lab.seed()
        async with daemon.client() as client:
            while not done.is_set():
                sealed = await client.encrypt(seed)
                assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
                await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        done.set()
        await task


@pytest.mark.parametrize(
    ("change", "linked"),
    [
        (rekey, True),
        (rekey_and_deactivate, True),
        (replace, True),
        (rename, False),
        (scheduled, True),
        (scheduled_and_deactivated, True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_changed_key_gives_its_key_id_and_no_call_fails(
    lab: Lab, change: Callable[[Lab], Sobject], *, linked: bool
) -> None:
    daemon = lab.start()
    old = await daemon.await_ok()
    async with calls_going_on(daemon, lab):
        new = change(lab)
        daemon.hang_up()
        daemon_line = await asyncio.to_thread(
            daemon.await_line, event="standing", state="ready", kid=new.kid
        )
    lineage = f":{lab.demo.key.kid}" if linked else ""
    assert daemon_line["key_id"] == f"sdkms.v1:{new.kid}{lineage}"
    assert (await daemon.status()).key_id == daemon_line["key_id"] != old.key_id


async def test_way_back_to_a_former_key_gives_a_third_key_id(lab: Lab) -> None:
    daemon = lab.start()
    first = (await daemon.await_ok()).key_id
    former = lab.demo.key
    async with calls_going_on(daemon, lab):
        new = replace(lab)
        daemon.hang_up()
        await asyncio.to_thread(
            daemon.await_line, event="standing", state="ready", kid=new.kid
        )
        second = (await daemon.status()).key_id
        with lab.dsm.lock:
            lab.dsm.keys.replace(new, "between", former)
        daemon.hang_up()
        third = f"sdkms.v1:{former.kid}:{new.kid}"
        await asyncio.to_thread(
            daemon.await_line, event="standing", state="ready", key_id=third
        )
    assert (await daemon.status()).key_id == third
    assert len({first, second, third}) == 3


def start_two(lab: Lab) -> tuple[Daemon, Daemon]:
    first = lab.start()
    second = lab.launch(lab.config("second.json", socket_file=f"{lab.socket}.2"))
    second.socket = lab.socket.with_name(f"{lab.socket.name}.2")
    second.await_socket()
    return first, second


async def test_two_daemons_agree_without_a_word(lab: Lab) -> None:
    first, second = start_two(lab)
    assert (await first.await_ok()).key_id == (await second.await_ok()).key_id
    new = lab.dsm.rekey(KEY_NAME)
    for daemon in (first, second):
        daemon.hang_up()
        await asyncio.to_thread(
            daemon.await_line, event="standing", state="ready", kid=new.kid
        )
    assert (await first.status()).key_id == (await second.status()).key_id
    seed = lab.seed()
    async with first.client() as one, second.client() as two:
        sealed = await one.encrypt(seed)
        assert await two.decrypt(sealed.ciphertext, sealed.key_id) == seed
        sealed = await two.encrypt(seed)
        assert await one.decrypt(sealed.ciphertext, sealed.key_id) == seed


async def look_again(lab: Lab, daemon: Daemon) -> None:
    looks = lab.dsm.journal.count(INFO)
    daemon.hang_up()
    await asyncio.to_thread(
        eventually, lambda: lab.dsm.journal.count(INFO) > looks, "a look"
    )


@pytest.mark.parametrize("per", list(LagPer))
async def test_two_daemons_agree_in_the_end_though_nodes_of_dsm_contradict_each_other(
    lab: Lab, per: LagPer
) -> None:
    daemons = start_two(lab)
    old = (await daemons[0].await_ok()).key_id
    await daemons[1].await_ok()
    with lab.dsm.lock:
        lab.dsm.keys.lag.seconds = 3600.0
        lab.dsm.keys.lag.per = per
    new = lab.dsm.rekey(KEY_NAME)
    assert lab.dsm.keys.lag
    async with calls_going_on(daemons[0], lab), calls_going_on(daemons[1], lab):
        for daemon in daemons:
            for _ in range(4):
                await look_again(lab, daemon)
                assert (await daemon.status()).key_id in (
                    old,
                    f"sdkms.v1:{new.kid}:{lab.demo.key.kid}",
                )
        with lab.dsm.lock:
            lab.dsm.keys.lag.end()
        for daemon in daemons:
            daemon.hang_up()
            await asyncio.to_thread(
                daemon.await_line, event="standing", state="ready", kid=new.kid
            )
    announced = [await daemon.status() for daemon in daemons]
    assert announced[0].key_id == announced[1].key_id != old
    for daemon in daemons:
        told = [line["key_id"] for line in daemon.lines(event="standing")]
        changes = [key_id for key_id, _ in itertools.groupby(told) if key_id]
        assert changes == [old, announced[0].key_id]

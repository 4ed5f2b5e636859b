"""The model does what kube-apiserver does, with a plugin on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from attrs import evolve
from tests.unit.kms_conformance.support import Site

from kms_conformance.api_server.model import ApiServer, Calls, Refused
from kms_conformance.api_server.stored import AES_KEY, EncryptedObject
from kms_conformance.connection import Sealed
from kms_conformance.reference import ReferencePlugin


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from adapters_grpc.messages import (
        DecryptRequest,
        DecryptResponse,
        EncryptRequest,
        EncryptResponse,
        StatusRequest,
        StatusResponse,
    )
    from kms_conformance.context import Context


WHERE = "/registry/secrets/default/one"


class Changeable(ReferencePlugin):
    """Answers with what a test changes."""

    version = "v2"
    healthz = "ok"
    status_key_id: str | None = None
    encrypt_key_id: str | None = None
    wrong_bytes = False

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version, answer.healthz = self.version, self.healthz
        if self.status_key_id is not None:
            answer.key_id = self.status_key_id
        return answer

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id = self.encrypt_key_id or answer.key_id
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if self.wrong_bytes:
            answer.plaintext = bytes(32)
        return answer


class World:
    def __init__(self, site: Site, kit: Context, plugin: Changeable) -> None:
        self.site = site
        self.kit = kit
        self.plugin = plugin
        self.kms = site.kms

    async def server(self) -> ApiServer:
        server = self.kit.api_server()
        assert await server.start() == ()
        return server


@pytest_asyncio.fixture
async def world(directory: Path) -> AsyncIterator[World]:
    async with Site(directory, Changeable) as site:
        assert isinstance(site.plugin, Changeable)
        kit = site.context()
        yield World(site, kit, site.plugin)
        await kit.aclose()


async def test_start_takes_one_status_and_one_encrypt(world: World) -> None:
    server = await world.server()
    assert server.calls == Calls(status=1, encrypt=1)
    value = EncryptedObject.from_etcd(server.write(b"{}", WHERE))
    assert value.sealed.key_id == world.kms.key_ids()[-1]
    assert server.calls == Calls(status=1, encrypt=1)


async def test_nothing_can_be_read_or_written_before_the_first_good_probe(
    world: World,
) -> None:
    server = world.kit.api_server()
    with pytest.raises(Refused, match="never been healthy"):
        server.write(b"{}", WHERE)
    value = (await world.server()).write(b"{}", WHERE)
    with pytest.raises(Refused, match="never been healthy"):
        await server.read(value, WHERE)


async def test_own_object_is_read_without_a_call_and_after_a_loss_with_one(
    world: World,
) -> None:
    server = await world.server()
    value = server.write(b"{}", WHERE)
    read = await server.read(value, WHERE)
    assert (read.plaintext, read.stale) == (b"{}", False)
    assert server.calls.decrypt == 0
    server.cache.clear()
    assert (await server.read(value, WHERE)).plaintext == b"{}"
    await server.read(value, WHERE)
    assert server.calls.decrypt == 1


async def test_another_server_reads_what_one_has_written(world: World) -> None:
    one, other = await world.server(), await world.server()
    read = await other.read(one.write(b"{}", WHERE), WHERE)
    assert (read.plaintext, read.stale) == (b"{}", False)
    assert other.calls.decrypt == 1


async def test_object_of_1_27_is_read_and_stale(world: World) -> None:
    server = await world.server()
    value = server.write(b"{}", WHERE, AES_KEY)
    server.cache.clear()
    read = await server.read(value, WHERE)
    assert (read.plaintext, read.stale) == (b"{}", True)


async def test_unchanged_key_id_renews_the_seed_without_encrypt(world: World) -> None:
    server = await world.server()
    first = server.state
    assert await server.pass_time(600) == ()
    assert server.calls.encrypt == 1
    assert server.state is not None
    assert first is not None
    assert server.state.key == first.key
    assert server.state.expires == 600 + 180


async def test_rotation_brings_one_new_seed_and_makes_old_objects_stale(
    world: World,
) -> None:
    server = await world.server()
    old = server.write(b"{}", WHERE)
    world.kms.rotate()
    assert await server.pass_time(60) == ()
    assert server.calls.encrypt == 2
    assert (await server.read(old, WHERE)).stale
    new = server.write(b"{}", WHERE)
    assert not (await server.read(new, WHERE)).stale


async def test_writes_coast_for_three_minutes_and_reads_for_ever(world: World) -> None:
    server = await world.server()
    value = server.write(b"{}", WHERE)
    world.kms.broken = True
    assert await server.pass_time(180)
    server.write(b"{}", WHERE)
    await server.pass_time(1)
    with pytest.raises(Refused, match="expired"):
        server.write(b"{}", WHERE)
    assert (await server.read(value, WHERE)).plaintext == b"{}"
    world.kms.broken = False
    await server.pass_time(10)
    server.write(b"{}", WHERE)
    assert server.calls.encrypt == 1


async def test_loop_asks_each_minute_and_every_ten_seconds_while_it_fails(
    world: World,
) -> None:
    server = await world.server()
    await server.pass_time(300)
    assert server.calls.status == 1 + 5
    world.kms.broken = True
    await server.pass_time(60)
    assert server.calls.status == 6 + 1
    await server.pass_time(60)
    assert server.calls.status == 7 + 6
    world.kms.broken = False
    await server.pass_time(10 + 60)
    assert server.calls.status == 13 + 2


async def test_start_without_a_plugin_goes_on_and_retries_after_ten_seconds(
    world: World,
) -> None:
    world.kms.broken = True
    server = world.kit.api_server()
    (problem,) = await server.start()
    assert "UNAVAILABLE" in problem
    world.kms.broken = False
    assert await server.pass_time(10) == ()
    server.write(b"{}", WHERE)


async def test_failed_start_does_not_move_the_minutes_of_the_loop(
    world: World,
) -> None:
    # The counts are those of k8s.io/apiserver v0.37.2 on a clock that jumps.
    world.kms.broken = True
    server = world.kit.api_server()
    await server.start()
    world.kms.broken = False
    counts = []
    for seconds in (5, 50, 10, 50, 10):
        await server.pass_time(seconds)
        counts.append(server.calls.status)
    assert counts == [1, 2, 3, 3, 4]


async def test_retries_after_a_failure_do_not_move_the_minutes_of_the_loop(
    world: World,
) -> None:
    # The counts are those of k8s.io/apiserver v0.37.2 on a clock that jumps.
    server = await world.server()
    await server.pass_time(55)
    world.kms.broken = True
    await server.pass_time(30)
    assert server.calls.status == 1 + 3
    world.kms.broken = False
    counts = []
    for seconds in (10, 23, 4, 60):
        await server.pass_time(seconds)
        counts.append(server.calls.status)
    assert counts == [5, 5, 6, 7]


async def test_health_is_remembered_for_20_s_when_good_and_3_s_when_bad(
    world: World,
) -> None:
    server = await world.server()
    await server.pass_time(59, health_every_s=1)
    assert server.calls.status == 1 + 2
    world.kms.broken = True
    problems = await server.pass_time(12, health_every_s=1)
    assert server.calls.status == 3 + 4
    assert len(problems) == 12 + 2  # health requests, and turns of the loop


async def test_time_passes_at_the_given_pace(world: World) -> None:
    server = ApiServer(world.kit.dial(), world.kit.random.randbytes, pace=0.0001)
    await server.pass_time(30)
    assert server.now == 30


@pytest.mark.parametrize(
    ("fault", "problems", "renewed"),
    [
        ({"healthz": "sick"}, 1, True),
        ({"version": "v3"}, 1, True),
        ({"version": "v2beta1"}, 1, True),
        ({"status_key_id": ""}, 1, False),
        ({"status_key_id": "k" * 1025}, 1, False),
        ({"status_key_id": "not Encrypt's"}, 1, False),
        ({"healthz": "", "version": ""}, 2, True),
    ],
)
async def test_only_a_bad_key_id_lets_the_seed_expire(
    world: World, fault: dict[str, str], problems: int, *, renewed: bool
) -> None:
    server = await world.server()
    for name, value in fault.items():
        setattr(world.plugin, name, value)
    await server.pass_time(30)
    assert len(await server.probe()) == problems
    assert server.state is not None
    assert (server.state.expires == 30 + 180) is renewed


async def test_invalid_answer_of_encrypt_leaves_the_old_seed(world: World) -> None:
    server = await world.server()
    before = server.state
    world.kms.rotate()
    world.plugin.encrypt_key_id = "k" * 1025
    (problem,) = await server.probe()
    assert "1025" in problem
    assert server.state == before


async def test_refused_encrypt_leaves_no_state(world: World) -> None:
    server = world.kit.api_server()
    world.plugin.encrypt = world.plugin.decrypt  # type: ignore[method-assign,assignment]
    await world.plugin.stop()
    await world.plugin.start()
    (problem,) = await server.start()
    assert "Encrypt" in problem
    assert server.state is None


async def test_wrong_bytes_of_decrypt_stay_after_the_plugin_is_mended(
    world: World,
) -> None:
    server = await world.server()
    value = server.write(b"{}", WHERE)
    server.cache.clear()
    world.plugin.wrong_bytes = True
    with pytest.raises(Refused, match="not encrypted under this key"):
        await server.read(value, WHERE)
    world.plugin.wrong_bytes = False
    with pytest.raises(Refused, match="not encrypted under this key"):
        await server.read(value, WHERE)


async def test_refused_decrypt_is_a_refused_read(world: World) -> None:
    server = await world.server()
    value = server.write(b"{}", WHERE)
    server.cache.clear()
    world.kms.broken = True
    with pytest.raises(Refused, match="UNAVAILABLE"):
        await server.read(value, WHERE)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sealed": Sealed(b"", "k")}, "the ciphertext is empty"),
        ({"data": b""}, "the encrypted data is empty"),
        ({"source_type": 2}, "source type 2 is unknown"),
        ({"provider": "kit2"}, "another provider"),
    ],
)
async def test_invalid_stored_value_is_refused_without_a_call(
    world: World, change: dict[str, Any], match: str
) -> None:
    server = await world.server()
    stored = EncryptedObject.from_etcd(server.write(b"{}", WHERE))
    server.cache.clear()
    with pytest.raises(Refused, match=match):
        await server.read(evolve(stored, **change).to_etcd(), WHERE)
    assert server.calls.decrypt == 0

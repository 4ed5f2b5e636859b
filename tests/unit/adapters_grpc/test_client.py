from __future__ import annotations

import grpc
import grpc.aio
import pytest
from tests.unit.adapters_grpc.support import KEY_ID, World, run_python

from adapters_grpc.client import CallFailed, KmsClient
from adapters_grpc.messages import SERVICE
from kms_core.errors import NotReady


async def test_client_calls_all_three_methods(world: World) -> None:
    async with world.served(), KmsClient(world.path) as client:
        assert (await client.status()).key_id == KEY_ID
        sealed = await client.encrypt(b"seed", uid="u-1")
        seed = await client.decrypt(
            sealed.ciphertext, sealed.key_id, uid="u-2", annotations={"a.b": b"v"}
        )
    assert seed == b"seed"
    assert world.service.uids == ["u-1", "u-2"]
    assert world.service.annotated == [True]


async def test_failure_carries_code_and_text(world: World) -> None:
    world.service.error = NotReady("no key is proven yet")
    async with world.served(), KmsClient(world.path) as client:
        with pytest.raises(CallFailed) as caught:
            await client.status()
    assert caught.value.code_name == "UNAVAILABLE"
    assert caught.value.text == world.service.error.text()
    assert str(caught.value) == f"UNAVAILABLE: {caught.value.text}"


async def test_answer_that_is_no_message_is_a_failure(world: World) -> None:
    async def junk(_raw: bytes, _context: object) -> bytes:
        return b"\xff\xff"

    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Status": grpc.unary_unary_rpc_method_handler(junk)
    }
    generic = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers([generic])
    server.add_insecure_port(f"unix:{world.path}")
    await server.start()
    async with KmsClient(world.path) as client:
        with pytest.raises(CallFailed) as caught:
            await client.status()
    await server.stop(None)
    assert (caught.value.code_name, caught.value.text) == (
        "OK",
        "the answer is no KMS v2 message",
    )


async def test_missing_server_is_waited_for_until_the_timeout(world: World) -> None:
    async with KmsClient(world.path, timeout_s=0.2) as client:
        with pytest.raises(CallFailed) as caught:
            await client.status()
    assert caught.value.code_name == "DEADLINE_EXCEEDED"


async def test_odd_characters_in_the_path_are_no_obstacle(world: World) -> None:
    world.path = world.path.with_name("k m+s é.sock")
    async with world.served(), KmsClient(world.path) as client:
        assert (await client.status()).healthz == "ok"


def test_importing_the_client_loads_no_core() -> None:
    loaded = run_python(
        "import sys, adapters_grpc.client\n"
        "print([name for name in sys.modules if name.startswith('kms_core')])"
    )
    assert loaded == "[]\n"

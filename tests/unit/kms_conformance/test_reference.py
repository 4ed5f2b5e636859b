from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from adapters_grpc.messages import ENCRYPT_METHOD
from kms_conformance.connection import Sealed
from kms_conformance.outcome import CallFailed
from kms_conformance.reference import ReferencePlugin, RemoteKms, SocketTaken


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.support import Site


async def test_key_that_returns_has_a_name_of_its_own(site: Site) -> None:
    kit = site.context()
    plugin, names = kit.dial(), []
    sealed = await plugin.encrypt(b"first")
    for move in (site.kms.rotate, site.kms.back):
        names.append((await plugin.status()).key_id)
        move()
    names.append((await plugin.status()).key_id)
    assert len(set(names)) == 3
    assert await plugin.decrypt(sealed) == b"first"
    await kit.aclose()


@pytest.mark.parametrize(
    "sealed",
    [
        Sealed(b"", "reference:0"),
        Sealed(bytes(40), "reference:0"),
        Sealed(bytes(40), "reference:1"),
        Sealed(bytes(40), "reference:0", (("a.b", b""),)),
    ],
)
async def test_what_it_did_not_make_is_refused(site: Site, sealed: Sealed) -> None:
    kit = site.context()
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT"):
        await kit.dial().decrypt(sealed)
    await kit.aclose()


async def test_garbage_and_long_plaintexts_are_refused(site: Site) -> None:
    kit = site.context()
    plugin = kit.dial()
    with pytest.raises(CallFailed, match="malformed"):
        await plugin.raw(ENCRYPT_METHOD, b"\xff")
    with pytest.raises(CallFailed, match="too long"):
        await plugin.encrypt(bytes(513))
    await kit.aclose()


async def test_socket_is_its_owners_and_not_taken_over(site: Site) -> None:
    assert stat.S_IMODE(site.plugin.path.stat().st_mode) == 0o600
    with pytest.raises(SocketTaken, match="another plugin"):
        await ReferencePlugin(site.kms, site.plugin.path).start()


async def test_what_is_no_socket_is_left_alone(directory: Path) -> None:
    path = directory / "file"
    path.write_text("precious")
    with pytest.raises(SocketTaken, match="no socket"):
        await ReferencePlugin(RemoteKms(), path).start()
    assert path.read_text() == "precious"


async def test_stale_socket_is_replaced(site: Site) -> None:
    await site.target.pulls[next(h for h in site.target.pulls if h.name == "KILL")]()
    assert site.plugin.path.is_socket()
    await site.plugin.start()
    kit = site.context()
    await kit.serving()
    await kit.aclose()

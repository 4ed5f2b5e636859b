"""API-server emulation: whole stories, told by the model of kube-apiserver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.api_server.model import Refused
from kms_conformance.check import check
from kms_conformance.outcome import MUST, Failed


if TYPE_CHECKING:
    from kms_conformance.api_server.model import ApiServer
    from kms_conformance.context import Context


@check("A01", MUST)
async def api_server_starts(kit: Context) -> None:
    """An API server that starts becomes healthy with one Status and one Encrypt.

    Sends: Status, and Encrypt of a new seed, as kube-apiserver does when it starts.
    Expects: both valid, with one key_id; an object can be written.
    Why: until then nothing that is encrypted can be read or written.
    Source: `cfg` 806-834; `env` 365-419
    """
    server = await _started(kit)
    server.write(b"{}", "/registry/secrets/kit/one")
    if (server.calls.status, server.calls.encrypt) != (1, 1):
        raise Failed(f"it took {server.calls}")


@check("A02", MUST)
async def written_object_is_read(kit: Context) -> None:
    """An object that was written is read after the caches were lost.

    Sends: Decrypt of the seed, as stored in etcd with the object.
    Expects: a seed that opens the object.
    Why: every restart of kube-apiserver reads all objects in this way.
    Source: `itest`
    """
    server = await _started(kit)
    where, content = "/registry/secrets/kit/one", kit.random.randbytes(100)
    value = server.write(content, where)
    server.cache.clear()
    try:
        read = await server.read(value, where)
    except Refused as refusal:
        raise Failed(str(refusal)) from None
    if read.plaintext != content or read.stale:
        raise Failed("another object, or a stale one")


async def _started(kit: Context) -> ApiServer:
    """Return the model of an API server that has become healthy."""
    server = kit.api_server()
    problems = await server.start()
    if problems:
        raise Failed("; ".join(problems))
    return server

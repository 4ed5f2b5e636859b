"""API-server emulation: whole stories, told by the model of kube-apiserver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.model import Calls, Refused
from kms_conformance.api_server.stored import AES_KEY
from kms_conformance.check import check
from kms_conformance.outage import told
from kms_conformance.outcome import MUST, SHOULD, Failed
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.api_server.model import ApiServer
    from kms_conformance.connection import Connection
    from kms_conformance.context import Context


WHERE: Final = "/registry/secrets/kit/one"
OBJECTS_PER_START: Final = 3

SHORT_OUTAGE_S: Final = 120.0
LONG_OUTAGE_S: Final = 240.0
RECOVERY_S: Final = 60.0

WATCHED_S: Final = 300.0
HEALTH_EVERY_S: Final = 20.0


@check("A01", MUST)
async def api_server_starts(kit: Context) -> None:
    """An API server that starts becomes healthy with one Status and one Encrypt.

    Sends: Status, and Encrypt of a new seed, as kube-apiserver does when it starts.
    Expects: both valid, with one key_id; an object can be written.
    Why: until then nothing that is encrypted can be read or written.
    Source: `cfg` 806-834; `env` 365-419
    """
    server = await _started(kit)
    server.write(b"{}", WHERE)
    if server.calls != Calls(status=1, encrypt=1):
        raise Failed(f"it took {server.calls}")


@check("A02", MUST)
async def written_object_is_read(kit: Context) -> None:
    """An object that was written is read after the caches were lost.

    Sends: Decrypt of the seed, as stored in etcd with the object.
    Expects: a seed that opens the object.
    Why: every restart of kube-apiserver reads all objects in this way.
    Source: `itest`
    """
    server, content = await _started(kit), kit.random.randbytes(100)
    value = server.write(content, WHERE)
    server.cache.clear()
    await _demand_read(server, value, content)


@check("A03", MUST)
async def another_api_server_reads_it(kit: Context) -> None:
    """What one API server has written, another one reads.

    Sends: the start of two API servers, each on a connection of its own; Decrypt by
        each of the seed that the other had sealed.
    Expects: seeds that open the objects, which are stale to neither.
    Why: all API servers of a cluster share one etcd, and each makes its own seed.
    Source: `contract` 4.2; `docs`
    """
    one, other = await _started(kit), await _started(kit)
    for writer, reader in ((one, other), (other, one)):
        content = kit.random.randbytes(100)
        await _demand_read(reader, writer.write(content, WHERE), content)


@check("A04", MUST, limit_s=120)
async def cold_list_opens_all_seeds(kit: Context) -> None:
    """An API server with a cold cache reads what fifty earlier starts have written.

    Sends: 50 starts, each of which writes three objects; one more, which reads all.
    Expects: every object, with exactly 50 Decrypts, one for each seed: were two sealed
        alike, an object would be opened with the other's.
    Why: this is every restart of a cluster that was never migrated: one seed for each
        earlier start, all needed before the API server is ready.
    Source: `env` 89-101; `contract` 3.2
    """
    written: list[tuple[bytes, str, bytes]] = []
    count = kit.count(50, least=10)
    for start in range(count):
        connection = kit.dial()
        server = await _started(kit, connection)
        for number in range(OBJECTS_PER_START):
            where = f"/registry/secrets/kit/{start}-{number}"
            content = kit.random.randbytes(50)
            written.append((server.write(content, where), where, content))
        await connection.aclose()
    server = await _started(kit)
    began = time.perf_counter()
    for value, where, content in written:
        await _demand_read(server, value, content, where)
    kit.measure("cold list", round(time.perf_counter() - began, 3), "s")
    kit.measure("Decrypts", server.calls.decrypt, "calls")


@check("A05", MUST, needs=(Hook.ROTATE,), limit_s=300)
async def rotation_is_followed(kit: Context) -> None:
    """An API server follows a rotation with one new seed.

    Sends: a start, an object, --rotate, and once Status shows it two probes; then the
        object is read, written again, and read again by another API server.
    Expects: one Encrypt, under the new key_id; the old object opens and is stale; once
        written again it is not.
    Why: this is how a rotation reaches etcd: a storage migration writes what is stale.
    Source: `itest`; `cfg` 383-447
    """
    server, content = await _started(kit), kit.random.randbytes(100)
    old = server.write(content, WHERE)
    await kit.rotate(kit.dial())
    server.cache.clear()
    _demand_healthy(await server.probe())
    _demand_healthy(await server.probe())
    if server.calls.encrypt != 2:  # noqa: PLR2004 - one at the start, one now
        raise Failed(f"the rotation took {server.calls.encrypt - 1} Encrypts")
    await _demand_read(server, old, content, stale=True)
    new = server.write(content, WHERE)
    await _demand_read(await _started(kit), new, content)


@check("A06", SHOULD, needs=(Hook.BREAK, Hook.HEAL), limit_s=420)
async def outage_is_lived_through(kit: Context) -> None:
    """An API server writes on in a short outage, stops in a long one, and recovers.

    Sends: a start, --break, Status until one tells; then what kube-apiserver sends in
        4 minutes; --heal, and what it sends in one minute more.
    Expects: writes after 2 minutes, no writes after 4; healthy again after the healing,
        without a new Encrypt if the key_id is the same; the object opens.
    Why: three minutes without a good Status are the limit after which kube-apiserver
        must not write, since nobody may ever be able to read it.
    Source: `cfg` 402-409; `env` 130-137
    """
    server, content = await _started(kit), kit.random.randbytes(100)
    await kit.pull(Hook.BREAK)
    await told(kit, kit.dial())
    await server.pass_time(SHORT_OUTAGE_S)
    value = server.write(content, WHERE)
    await server.pass_time(LONG_OUTAGE_S - SHORT_OUTAGE_S)
    if _can_write(server):
        raise Failed("writes go on after four minutes of the outage")
    await kit.pull(Hook.HEAL)
    await kit.serving()
    key_id = _key_id(server)
    await server.pass_time(RECOVERY_S)
    _demand_healthy(await server.health())
    same_key = _key_id(server) == key_id
    if same_key and server.calls.encrypt != 1:
        raise Failed(f"{server.calls.encrypt - 1} more Encrypts under one key_id")
    server.cache.clear()
    await _demand_read(server, value, content, stale=not same_key)


@check("A07", MUST)
async def reload_disturbs_nobody(kit: Context) -> None:
    """A reload of the encryption config disturbs neither its old nor its new side.

    Sends: a start; on a new connection another start, as a reload makes it; Status and
        Decrypts on both by turns; then the old connection is closed.
    Expects: OK throughout, also on the new connection after the old one has ended.
    Why: old and new providers overlap for as long as all their timeouts together.
    Source: `ctl` 253-288; `cfg` 728-736
    """
    connection = kit.dial()
    old, content = await _started(kit, connection), kit.random.randbytes(100)
    first = old.write(content, WHERE)
    new = await _started(kit)
    second = new.write(content, WHERE)
    for server in (old, new, old):
        _demand_healthy(await server.probe())
        server.cache.clear()
        await _demand_read(server, first, content)
        await _demand_read(server, second, content)
    await connection.aclose()
    _demand_healthy(await new.probe())
    new.cache.clear()
    await _demand_read(new, first, content)


@check("A08", MUST)
async def object_of_1_27_is_read(kit: Context) -> None:
    """An object of 1.27 is read: its sealed key is not a seed, but an AES key.

    Sends: Decrypt of 32 bytes that were sealed as an AES key.
    Expects: exactly 32 bytes, which open the object; it is stale.
    Why: such objects stay in etcd until they are written again, and their key must have
        the length of one.
    Source: `env` 320-363; `itest`
    """
    server, content = await _started(kit), kit.random.randbytes(100)
    value = server.write(content, WHERE, AES_KEY)
    server.cache.clear()
    await _demand_read(server, value, content, stale=True)


@check("A09", MUST, slow=True, limit_s=120)
async def health_does_not_flap(kit: Context) -> None:
    """An API server that is asked for its health every 20 s stays healthy.

    Sends: what kube-apiserver sends in 5 minutes: Status for each health request, every
        20 s, and for its own loop, every 60 s.
    Expects: healthy each time, with one version and no further Encrypt.
    Why: one bad answer takes /readyz down, and the API server out of its load balancer.
    Source: `cfg` 351-375, 829-853
    """
    server = await _started(kit)
    problems = await server.pass_time(WATCHED_S, health_every_s=HEALTH_EVERY_S)
    _demand_healthy(problems)
    if server.calls.encrypt != 1:
        raise Failed(f"{server.calls.encrypt - 1} further Encrypts")
    kit.measure("Status in 5 minutes", server.calls.status, "calls")


async def _started(kit: Context, connection: Connection | None = None) -> ApiServer:
    """Return the model of an API server that has become healthy."""
    server = kit.api_server(connection)
    _demand_healthy(await server.start())
    return server


def _demand_healthy(problems: tuple[str, ...]) -> None:
    if problems:
        raise Failed("; ".join(dict.fromkeys(problems)))


async def _demand_read(
    server: ApiServer,
    value: bytes,
    content: bytes,
    where: str = WHERE,
    *,
    stale: bool = False,
) -> None:
    try:
        read = await server.read(value, where)
    except Refused as refusal:
        raise Failed(str(refusal)) from None
    if read.plaintext != content or read.stale != stale:
        found = "the same" if read.plaintext == content else "another"
        raise Failed(f"{found} object, {'stale' if read.stale else 'not stale'}")


def _can_write(server: ApiServer) -> bool:
    try:
        server.write(b"{}", WHERE)
    except Refused:
        return False
    return True


def _key_id(server: ApiServer) -> str:
    return server.state.sealed.key_id if server.state else ""

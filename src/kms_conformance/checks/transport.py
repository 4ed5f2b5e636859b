"""Transport: connections, HTTP/2 and gRPC itself."""

from __future__ import annotations

import functools
import stat
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from adapters_grpc.messages import (
    ENCRYPT_METHOD,
    STATUS_METHOD,
    EncryptRequest,
    StatusRequest,
)
from kms_conformance.check import check
from kms_conformance.connection import Dial, Sealed
from kms_conformance.expect import grpc_ok, same
from kms_conformance.http2 import grpc_frame
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed, NotRun


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kms_conformance.connection import Connection
    from kms_conformance.context import Context


T = TypeVar("T")

STREAMS: Final = 100
"""How many calls Kubernetes' own unit test has in flight on one connection."""

MAX_ENCRYPT_ANSWER_BYTES: Final = 36 * 1024
"""1024 of ciphertext, 1024 of key_id, 32768 of annotations, and their frames."""

_OTHERS: Final = stat.S_IRWXO

# What grpc-go sends with each call besides the headers that HTTP/2 asks for.
_GRPC_GO_HEADERS: Final = (("user-agent", "grpc-go/1.76.0"), ("grpc-timeout", "3S"))


@check("T01", MUST)
async def socket_speaks_http2(kit: Context) -> None:
    """A connection is ready for HTTP/2 within the API server's timeout.

    Sends: an AF_UNIX connection with HTTP/2's preface, in clear and without upgrade.
    Expects: SETTINGS within 3 s.
    Why: kube-apiserver dials so, without TLS; nothing else of the plugin is reached.
    Source: `grpc` 59-77
    """
    try:
        await kit.raw_http2()
    except (OSError, TimeoutError) as error:
        raise Failed(str(error) or "no SETTINGS in time") from None


@check("T02", MUST)
async def authority_localhost_is_served(kit: Context) -> None:
    """A call with the authority localhost is answered.

    Sends: Status with :authority localhost.
    Expects: OK.
    Why: kube-apiserver sends it since 1.32, and nothing else.
    Source: `grpc` 61; `mock`
    """
    await kit.dial(Dial(authority="localhost")).status()


@check("T03", SHOULD)
async def authority_of_older_api_servers_is_served(kit: Context) -> None:
    """A call with the socket's path as its authority is answered.

    Sends: Status with :authority set to the percent-encoded path of the socket.
    Expects: OK.
    Why: kube-apiserver before 1.32 sends it, and so does every v1beta1 client; for
        these it is a MUST.
    Source: `contract` 2.3; `v1` 64-80
    """
    authority = quote(kit.target.endpoint.name, safe="")
    await kit.dial(Dial(authority=authority)).status()


@check("T04", MUST)
async def all_three_methods_are_there(kit: Context) -> None:
    """Status, Encrypt and Decrypt of package v2 are served.

    Sends: one minimal valid request to each, Decrypt with what Encrypt answered.
    Expects: none is UNIMPLEMENTED.
    Why: packages v2alpha1 and v1beta1 have other paths, which kube-apiserver does not
        call.
    Source: `proto`
    """
    plugin = kit.dial()
    await _implemented(plugin.status())
    sealed = await _implemented(plugin.encrypt(kit.seed()))
    await _implemented(plugin.decrypt(sealed or Sealed(b"", "")))


@check("T06", MUST)
async def calls_need_no_credentials(kit: Context) -> None:
    """A call is answered without TLS, tokens or any metadata.

    Sends: Status and Encrypt in clear, with the headers that grpc-go itself sends.
    Expects: OK.
    Why: kube-apiserver has no credentials for a plugin and no setting for any; who may
        call is decided by the socket's permissions.
    Source: `grpc` 62
    """
    plugin = await kit.raw_http2()
    encrypt = EncryptRequest(plaintext=kit.seed(), uid=kit.uid())
    for path, request in ((STATUS_METHOD, StatusRequest()), (ENCRYPT_METHOD, encrypt)):
        body = grpc_frame(request.SerializeToString())
        grpc_ok(await plugin.call(path, body, extra=_GRPC_GO_HEADERS), sent=path)


@check("T07", MUST)
async def answers_are_not_compressed(kit: Context) -> None:
    """An answer to a client that knows no compression is not compressed.

    Sends: Status with grpc-accept-encoding: identity.
    Expects: no grpc-encoding but identity, and no compressed flag on the message.
    Why: gRPC allows only an encoding that the client has named. kube-apiserver names
        gzip only because its tracing links it; older ones may name none.
    Source: `contract` T07
    """
    plugin = await kit.raw_http2()
    body = grpc_frame(StatusRequest().SerializeToString())
    extra = [("grpc-accept-encoding", "identity")]
    answer = await plugin.call(STATUS_METHOD, body, extra=extra)
    encoding = answer.header("grpc-encoding") or "identity"
    if encoding != "identity":
        raise Failed(f"grpc-encoding: {encoding}")
    if answer.body[:1] == b"\x01":
        raise Failed("a message with the compressed flag set")


@check("T08", MUST, last=True)
async def answers_are_small_enough(kit: Context) -> None:
    """No answer of the whole run was larger than its client takes.

    Sends: Status, Encrypt and Decrypt once more.
    Expects: Encrypt's largest answer of the run below 36 kB; all below 4 MiB, or this
        client, like grpc-go, would have failed the call with RESOURCE_EXHAUSTED.
    Why: what is larger never reaches kube-apiserver, or can't be stored in etcd.
    Source: `grpc-go` clientconn.go 139-140; `env` 78-88
    """
    await _round_trip(kit, kit.dial())
    for method in ("Status", "Encrypt", "Decrypt"):
        largest = kit.recorder.largest_bytes(method)
        kit.measure(f"largest answer of {method}", largest, "bytes")
    largest = kit.recorder.largest_bytes("Encrypt")
    if largest >= MAX_ENCRYPT_ANSWER_BYTES:
        raise Failed(f"an answer of Encrypt with {largest} bytes")


@check("T09", MUST)
async def several_connections_are_served(kit: Context) -> None:
    """Several connections are served at the same time, with one key_id.

    Sends: Status, Encrypt and Decrypt on two, then on five connections at once.
    Expects: OK on all, and the same key_id everywhere.
    Why: while kube-apiserver reloads its configuration the old connection and the new
        one are both in use; two providers may share a socket.
    Source: `cfg` 226-252; `contract` 2.6
    """
    key_ids: set[str] = set()
    for count in (2, 5):
        plugins = [kit.dial() for _ in range(count)]
        # All stand before the first is used for anything else.
        for plugin in plugins:
            key_ids.add((await plugin.status()).key_id)
        jobs = [functools.partial(_round_trip, kit, plugin) for plugin in plugins]
        key_ids.update(await kit.parallel(jobs, width=count))
    if len(key_ids) != 1:
        raise Failed(f"{len(key_ids)} different key_ids: {sorted(key_ids)}")


@check("T10", SHOULD, slow=True, limit_s=120)
async def idle_connection_is_kept(kit: Context) -> None:
    """A connection on which nothing happens for 70 s is still there.

    Sends: Status, 70 s of silence, Status.
    Expects: OK, on the same connection.
    Why: kube-apiserver asks once a minute; if it must dial anew each time, a call that
        meets the closing connection fails.
    Source: `cfg` 91; `contract` 2.3
    """
    plugin = kit.dial()
    await plugin.status()
    await kit.idle(70)
    state = plugin.state()
    await plugin.status()
    if state != "READY":
        raise Failed(f"the connection was {state} after the silence, and dialled anew")


@check("T11", MUST)
async def hundred_streams_are_served(kit: Context) -> None:
    """A hundred calls at once on one connection are all answered.

    Sends: 100 times Encrypt and then Decrypt, all at once on one connection; then 100
        Encrypts of which each is opened before the first is ended.
    Expects: every seed, each call within the timeout, and OK; a warning if the plugin
        allows fewer than 100 streams.
    Why: kube-apiserver has one connection, and each reader of an object whose seed is
        not cached calls Decrypt on it; nothing is retried.
    Source: `unit` kmsv2/grpc_service_unix_test.go; `contract` 2.6
    """
    plugin = kit.dial()
    await plugin.status()
    # As wide in a quick run, too: a limit shows only to who reaches it.
    count = min(STREAMS, kit.count(5 * STREAMS, least=20))
    jobs = [functools.partial(_round_trip, kit, plugin)] * count
    await kit.parallel(jobs, width=count)
    raw = await kit.raw_http2()
    if raw.max_streams < STREAMS:
        kit.warn(
            f"SETTINGS allow {raw.max_streams} streams at once; further calls wait"
        )
        return
    # grpcio may take so long for each call that few are in flight together.
    request = EncryptRequest(plaintext=kit.seed(), uid=kit.uid())
    frame = grpc_frame(request.SerializeToString())
    streams = [
        await raw.send(ENCRYPT_METHOD, frame[:1], end=False) for _ in range(count)
    ]
    for stream in streams:
        await raw.finish(stream, frame[1:])
    for stream in streams:
        grpc_ok(await raw.answer(stream), sent=f"one of {count} Encrypts at once")


@check("T15", SHOULD)
async def socket_is_not_everybodys(kit: Context) -> None:
    """The socket's permissions leave others out.

    Sends: nothing; looks at the file and at its directory.
    Expects: no permission for others on the socket, and a directory in which not
        everybody may rename files, unless its sticky bit is set.
    Why: whoever can connect can have every stored seed decrypted.
    Source: `docs`; `contract` 2.4
    """
    path = kit.socket_file()
    mode = path.stat().st_mode
    if mode & _OTHERS:
        raise Failed(f"the socket's mode is {stat.S_IMODE(mode):04o}")
    mode = path.parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise Failed(f"the mode of its directory is {stat.S_IMODE(mode):04o}")


@check("T16", SHOULD)
async def abstract_socket_has_the_name_that_go_dials(kit: Context) -> None:
    """An abstract socket is reachable at NUL and its name.

    Sends: Status to the address NUL and name, where the endpoint is unix:///@name.
    Expects: OK.
    Why: that is what kube-apiserver dials; servers that take @ for a part of the name,
        or fill the address with NUL bytes, listen elsewhere.
    Source: `kmslib` util.go; `contract` 2.4
    """
    if not kit.target.endpoint.is_abstract:
        raise NotRun("the socket is a file, not an abstract one")
    try:
        await kit.raw_socket()
    except OSError as error:
        raise Failed(f"nobody listens there: {error.strerror}") from None
    await kit.dial().status()


async def _implemented(call: Awaitable[T]) -> T | None:
    """Return what *call* gave, or None if it failed with any code but UNIMPLEMENTED."""
    try:
        return await call
    except CallFailed as failure:
        if failure.code == "UNIMPLEMENTED":
            raise Failed(str(failure)) from None
        return None  # that is for the checks of this method


async def _round_trip(kit: Context, plugin: Connection) -> str:
    """Have a new seed sealed and opened, and return its key_id."""
    seed = kit.seed()
    sealed = await plugin.encrypt(seed)
    same(await plugin.decrypt(sealed), seed)
    return sealed.key_id

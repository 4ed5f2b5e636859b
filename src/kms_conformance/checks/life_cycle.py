"""Life cycle: how a plugin starts, stops, dies, and shares its path."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    STATUS_METHOD,
    DecryptRequest,
    DecryptResponse,
)
from kms_conformance.check import check
from kms_conformance.context import IMPATIENT
from kms_conformance.expect import grpc_ok, same
from kms_conformance.http2 import PREFIX_BYTES, ConnectionLost, grpc_frame
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed, NotRun, shown
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kms_conformance.context import Context
    from kms_conformance.target import Pulled


USABLE_WITHIN_S: Final = 5.0
"""How soon a plugin must be there after its start."""

STOPPED_WITHIN_S: Final = 10.0
"""How soon it must have ended after SIGTERM, calls in flight included."""

SILENT_CLIENTS: Final = 10

_CONTENT: Final = "The kit put this file here (L08), and removes it.\n"


@check("L01", MUST, needs=(Hook.STOP, Hook.START))
async def call_waits_for_the_start(kit: Context) -> None:
    """A call that was made before the plugin is there is answered.

    Sends: Encrypt with a deadline of 6 s; the plugin is started 3 s later.
    Expects: OK.
    Why: kube-apiserver's calls wait for the connection, and node start-up has no order.
    Source: `unit` TestTimeouts; `grpc` 63
    """
    await kit.pull(Hook.STOP)
    # It dials more often than kube-apiserver: this is about the plugin's start alone.
    early = asyncio.ensure_future(kit.dial(IMPATIENT).encrypt(kit.seed(), timeout_s=6))
    try:
        await kit.idle(3)
        await kit.pull(Hook.START)
        await early
    finally:
        await _ended(early)


@check("L02", MUST, needs=(Hook.STOP, Hook.START))
async def connection_recovers_from_an_outage(kit: Context) -> None:
    """A connection that was lost is made anew, and the waiting call is answered.

    Sends: Encrypt, a stop, 2 s of silence, Encrypt with a deadline of 30 s, a start.
    Expects: OK for both, on one client.
    Why: kube-apiserver never makes another client; it must find the plugin again.
    Source: `unit` TestIntermittentConnectionLoss; `contract` 2.3
    """
    plugin = kit.dial()
    await plugin.encrypt(kit.seed())
    await kit.pull(Hook.STOP)
    await kit.idle(2)
    waiting = asyncio.ensure_future(plugin.encrypt(kit.seed(), timeout_s=30))
    try:
        await kit.pull(Hook.START)
        await waiting
    finally:
        await _ended(waiting)


@check("L03", MUST, needs=(Hook.KILL, Hook.START))
async def killed_plugin_starts_again(kit: Context) -> None:
    """A plugin that was killed can be started again at once.

    Sends: SIGKILL, a start, then Status.
    Expects: the start succeeds, and Status is ok within 5 s.
    Why: a killed process leaves its socket behind; a plugin that trips over it stays
        down until somebody removes the file by hand.
    Source: `contract` L03
    """
    await kit.pull(Hook.KILL)
    started = await kit.attempt(Hook.START)
    if started.exit_code != 0:
        raise Failed(f"it does not start: {_said(started)}")
    took_s = await kit.serving(within_s=USABLE_WITHIN_S)
    kit.measure("Status after the start", round(took_s, 3), "s")


@check("L04", SHOULD, needs=(Hook.STOP, Hook.START))
async def stop_lets_calls_in_flight_end(kit: Context) -> None:
    """A plugin that is stopped answers what it has begun, and nothing new.

    Sends: the head of a Decrypt; SIGTERM; Status on another connection until it is
        refused; then the message of the Decrypt.
    Expects: the seed; refusals within 5 s; the end, with --stop exiting with 0, within
        10 s of the signal.
    Why: an upgrade of the plugin must not be a failed read of some Secret.
    Source: `kmslib` grpc_service.go, Shutdown
    """
    plugin, other, seed = await kit.raw_http2(), kit.dial(IMPATIENT), kit.seed()
    sealed = await other.encrypt(seed)
    frame = grpc_frame(
        DecryptRequest(
            ciphertext=sealed.ciphertext,
            uid=kit.uid(),
            key_id=sealed.key_id,
            annotations=dict(sealed.annotations),
        ).SerializeToString()
    )
    stream = await plugin.send(DECRYPT_METHOD, frame[:1], end=False)
    # Comes after it on the same connection: now the plugin has seen the call.
    grpc_ok(await plugin.call(STATUS_METHOD, grpc_frame(b"")), sent="Status")
    loop = asyncio.get_running_loop()
    began = loop.time()
    stopping = asyncio.ensure_future(kit.pull(Hook.STOP))

    async def refuses() -> bool:
        try:
            await other.status(timeout_s=0.3)
        except CallFailed:
            return True
        return False

    try:
        await kit.until(
            refuses, within_s=5, otherwise="new calls were not refused after SIGTERM"
        )
        await plugin.finish(stream, frame[1:])
        answer = await plugin.answer(stream)
        grpc_ok(answer, sent="the rest of the call in flight")
        opened = DecryptResponse.FromString(answer.body[PREFIX_BYTES:])
        same(opened.plaintext, seed)
        async with asyncio.timeout_at(began + STOPPED_WITHIN_S):
            await stopping
    except ConnectionLost as lost:
        raise Failed(f"the call in flight was cut off: {lost}") from None
    finally:
        plugin.close()  # also when it has failed: the plugin may be waiting
        await asyncio.wait([stopping], timeout=STOPPED_WITHIN_S)
        await _ended(stopping)
    kit.measure("from SIGTERM to the end", round(loop.time() - began, 3), "s")


@check("L05", SHOULD, needs=(Hook.STOP, Hook.START))
async def clean_stop_removes_the_socket(kit: Context) -> None:
    """A plugin that is stopped takes its socket away.

    Sends: SIGTERM.
    Expects: no file at the socket's path.
    Why: a socket that stays looks alive to whoever waits for the file.
    Source: `contract` L05
    """
    path = kit.socket_file()
    await kit.pull(Hook.STOP)
    if path.exists():
        raise Failed("the socket is still there")


@check("L06", SHOULD, needs=(Hook.STOP, Hook.START))
async def second_instance_is_refused(kit: Context) -> None:
    """A second instance on the same path refuses to start, and disturbs nothing.

    Sends: a start while the plugin runs; Status on an old and on a new connection.
    Expects: --start exits with another code than 0; OK on both; the same socket file.
    Why: a second instance that takes the path over cuts the first one off, and when it
        ends it leaves kube-apiserver without any.
    Source: `contract` 2.4
    """
    plugin = kit.dial()
    await plugin.status()
    before = _inode(kit)
    started = await kit.attempt(Hook.START)
    async with _started_anew_on_failure(kit):
        if _inode(kit) != before:
            raise Failed("the socket was replaced or removed under the first instance")
        if started.exit_code == 0:
            raise Failed("--start exited with 0, as if a second instance were serving")
        await plugin.status()
        await kit.dial().status()


@check(
    "L07",
    SHOULD,
    needs=(Hook.STOP, Hook.START, Hook.BREAK, Hook.HEAL),
    limit_s=180,
)
async def starts_without_its_key_service(kit: Context) -> None:
    """A plugin starts although its key service can't be reached, says so, and recovers.

    Sends: a stop, --break, a start, Status; then --heal, and Status until it is ok.
    Expects: a connection within 5 s; an error or a healthz other than ok, without
        hanging; ok within 60 s of the healing, without another start.
    Why: while nobody listens kube-apiserver waits longer and longer before it dials
        again; a socket that is there keeps the way back short.
    Source: `contract` 2.3, 2.5
    """
    await kit.pull(Hook.STOP)
    await kit.pull(Hook.BREAK)
    started = await kit.attempt(Hook.START)
    if started.exit_code != 0:
        raise Failed(f"it does not start: {_said(started)}")
    took_s = await kit.until(
        lambda: _accepts(kit),
        within_s=USABLE_WITHIN_S,
        otherwise="nobody listened after the start",
    )
    kit.measure("listening after the start", round(took_s, 3), "s")
    try:
        answer = await kit.dial().status()
    except CallFailed as failure:
        if failure.no_answer:
            raise
    else:
        if answer.healthz == "ok":
            raise Failed("Status says ok without the key service")
    await kit.pull(Hook.HEAL)
    kit.measure("ok after the healing", round(await kit.serving(), 3), "s")


@check("L08", SHOULD, needs=(Hook.STOP, Hook.START))
async def foreign_file_is_left_alone(kit: Context) -> None:
    """A plugin does not start over a file that is no socket.

    Sends: a stop, a regular file at the socket's path, a start.
    Expects: --start exits with another code than 0, and the file is untouched.
    Why: a mistyped path must not cost a file that somebody needs.
    Source: `contract` L08
    """
    path = kit.socket_file()
    await kit.pull(Hook.STOP)
    path.unlink(missing_ok=True)  # if the plugin left its socket behind, see L05
    path.write_text(_CONTENT)
    try:
        started = await kit.attempt(Hook.START)
        async with _started_anew_on_failure(kit):
            if not path.is_file() or path.read_text() != _CONTENT:
                raise Failed("the file is gone, or has another content")
            if started.exit_code == 0:
                raise Failed("--start exited with 0 although the path is taken")
    finally:
        if path.is_file():
            path.unlink()


@check("L10", SHOULD)
async def silent_clients_disturb_nobody(kit: Context) -> None:
    """Clients that connect and say nothing do not keep others out.

    Sends: nothing on ten connections; Status, Encrypt and Decrypt on another.
    Expects: OK.
    Why: a health probe, or a client that hangs, must not stop every read of Secrets.
    Source: `contract` L10
    """
    for _ in range(SILENT_CLIENTS):
        await kit.raw_socket()
    plugin, seed = kit.dial(), kit.seed()
    await plugin.status()
    same(await plugin.decrypt(await plugin.encrypt(seed)), seed)


@contextlib.asynccontextmanager
async def _started_anew_on_failure(kit: Context) -> AsyncIterator[None]:
    """Stop what a forbidden start has left, so that the runner starts one instance."""
    try:
        yield
    except (Failed, CallFailed):
        await kit.attempt(Hook.STOP)
        raise


async def _accepts(kit: Context) -> bool:
    try:
        await kit.raw_socket()
    except OSError:
        return False
    return True


async def _ended(task: asyncio.Future[Any]) -> None:
    """See *task* end; what it gave or raised was taken where it is wanted."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _inode(kit: Context) -> tuple[int, int] | None:
    """Return what tells the socket file from another, or None without a file."""
    try:
        status = kit.socket_file().lstat()
    except (NotRun, FileNotFoundError):
        return None
    return status.st_dev, status.st_ino


def _said(pulled: Pulled) -> str:
    return f"--start exited with {pulled.exit_code}: {shown(pulled.output)}"

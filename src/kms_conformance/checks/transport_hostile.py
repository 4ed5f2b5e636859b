"""Transport: what no well-behaved client sends, and what must survive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    SERVICE,
    STATUS_METHOD,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusRequest,
)
from kms_conformance.check import check
from kms_conformance.expect import grpc_ok, refused, same
from kms_conformance.http2 import ConnectionLost, grpc_frame
from kms_conformance.outcome import SHOULD, CallFailed, Failed


if TYPE_CHECKING:
    from kms_conformance.context import Context
    from kms_conformance.http2 import RawHttp2


UNIMPLEMENTED: Final = "12"
"""The code of a method that is not there, as grpc-status writes it."""

RESETS: Final = 20
BEGUN_S: Final = 0.001

HASTE_S: Final = 0.05
"""Deadline of a prober in haste."""

_IN_HASTE: Final = (("grpc-timeout", "20m"),)

# Field 1000, once as a number and once as bytes: no version of the API has it.
_UNKNOWN_FIELDS: Final = b"\xc0\x3e\x07" + b"\xc2\x3e\x03new"

# No protobuf message begins like these.
_GARBAGE: Final = (
    ("a tag without end", b"\xff" * 32),
    ("a field longer than the message", b"\x0a\x7f\x01"),
    ("wire type 7", b"\x0f\x01"),
    ("the end of a group that never began", b"\x0c"),
)

_LYING_FRAMES: Final = (
    ("a frame that says it has 100 bytes more", grpc_frame(b"", length=100)),
    ("a frame that says it has 4 GB", grpc_frame(b"", length=0xFFFF_FFFF)),
    ("a frame that says it is compressed", grpc_frame(b"\x00garbage", flag=1)),
    ("half of a frame's prefix", b"\x00\x00"),
)


@check("T05", SHOULD)
async def unknown_method_is_unimplemented(kit: Context) -> None:
    """A method that the service does not have is UNIMPLEMENTED, and nothing breaks.

    Sends: a call of a method of the kit's own, then Status on the same connection.
    Expects: UNIMPLEMENTED, then OK.
    Why: a newer kube-apiserver may ask for a method that this plugin does not know yet;
        the connection is shared by all its calls.
    Source: `contract` T05
    """
    plugin = await kit.raw_http2()
    answer = await plugin.call(f"/{SERVICE}/KitKnowsNone", grpc_frame(b""))
    code = answer.header("grpc-status")
    if code != UNIMPLEMENTED:
        raise Failed(f"grpc-status {code}, not {UNIMPLEMENTED}")
    await _status_is_ok(plugin, "Status, after an unknown method")


@check("T12", SHOULD)
async def cancelled_calls_leave_nothing_behind(kit: Context) -> None:
    """Calls that the client gives up do not disturb later ones.

    Sends: Status with a deadline of 50 ms, and Status calls that are reset in their
        message, after it and after their end, 20 of each; then Status.
    Expects: OK, on the same connection.
    Why: a health prober that hangs up cancels kube-apiserver's Status; what a plugin
        holds for a cancelled call would run out.
    Source: `cfg` 200-204
    """
    hasty, plugin = kit.dial(), await kit.raw_http2()
    await hasty.status()
    body = grpc_frame(StatusRequest().SerializeToString())
    # As many in a quick run, too: fewer would not use up what is not given back.
    for _ in range(min(RESETS, kit.count(5 * RESETS))):
        try:
            await hasty.status(timeout_s=HASTE_S)
        except CallFailed as failure:
            if not failure.no_answer:
                raise
        # As kube-apiserver's own are: servers may begin only when a request has ended,
        # and some moments later.
        stream = await plugin.send(STATUS_METHOD, body)
        await kit.beat(BEGUN_S)
        await plugin.cancel(stream)
        await plugin.cancel(await plugin.send(STATUS_METHOD, body, end=False))
        await plugin.cancel(await plugin.send(STATUS_METHOD, body[:3], end=False))
    await _status_is_ok(plugin, "Status, after calls that were reset")
    await hasty.status()


@check("T13", SHOULD)
async def unknown_fields_are_ignored(kit: Context) -> None:
    """Fields that a message does not have are taken as if they were not there.

    Sends: Status, Encrypt and Decrypt, each with two fields of number 1000 added.
    Expects: what comes without them.
    Why: a later version of the API adds fields, and proto3 has receivers ignore them.
    Source: `proto`
    """
    plugin, seed = kit.dial(), kit.seed()

    async def ask(method: str, raw: bytes) -> bytes:
        return await plugin.raw(method, raw + _UNKNOWN_FIELDS)

    await ask(STATUS_METHOD, StatusRequest().SerializeToString())
    request = EncryptRequest(plaintext=seed, uid=kit.uid())
    came = await ask(ENCRYPT_METHOD, request.SerializeToString())
    sealed = EncryptResponse.FromString(came)
    again = DecryptRequest(
        ciphertext=sealed.ciphertext,
        uid=kit.uid(),
        key_id=sealed.key_id,
        annotations=sealed.annotations,
    )
    came = await ask(DECRYPT_METHOD, again.SerializeToString())
    same(DecryptResponse.FromString(came).plaintext, seed)


@check("T14", SHOULD, limit_s=120)
async def garbage_is_refused(kit: Context) -> None:
    """Bytes that are no message are refused, and nothing breaks.

    Sends: to each method four bodies that no protobuf decoder takes; to Encrypt four
        frames that lie about their length or compression, with a deadline of 20 ms,
        since a server may wait for the rest; after each Status.
    Expects: an error each time, without hanging; a frame that lies may cost the
        connection. Then OK.
    Why: whoever can open the socket could stop every read and write of the cluster.
    Source: `contract` T14
    """
    plugin = kit.dial()
    for method in (STATUS_METHOD, ENCRYPT_METHOD, DECRYPT_METHOD):
        for what, body in _GARBAGE:
            await refused(plugin.raw(method, body), sent=f"{method}: {what}")
            await plugin.status()
    for what, frame in _LYING_FRAMES:
        await _refused_by_hand(kit, frame, what)
        await plugin.status()


async def _refused_by_hand(kit: Context, frame: bytes, sent: str) -> None:
    raw = await kit.raw_http2()
    try:
        answer = await raw.call(ENCRYPT_METHOD, frame, extra=_IN_HASTE)
    except ConnectionLost:
        return
    except TimeoutError:
        raise Failed("no answer in time", sent=sent) from None
    finally:
        raw.close()
    if answer.header("grpc-status") == "0":
        raise Failed("OK instead of an error", sent=sent)


async def _status_is_ok(plugin: RawHttp2, sent: str) -> None:
    body = grpc_frame(StatusRequest().SerializeToString())
    grpc_ok(await plugin.call(STATUS_METHOD, body), sent=sent)

"""Transport: connections, HTTP/2 and gRPC itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters_grpc.messages import STATUS_METHOD, StatusRequest
from kms_conformance.check import check
from kms_conformance.http2 import grpc_frame
from kms_conformance.outcome import MUST, Failed


if TYPE_CHECKING:
    from kms_conformance.context import Context


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


@check("T07", MUST)
async def answers_are_not_compressed(kit: Context) -> None:
    """An answer to a client that knows no compression is not compressed.

    Sends: Status with grpc-accept-encoding: identity.
    Expects: no grpc-encoding but identity, and no compressed flag on the message.
    Why: kube-apiserver links no compressor, so that it could not read the answer.
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

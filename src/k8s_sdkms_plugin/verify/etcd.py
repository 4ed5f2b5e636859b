"""Reads objects from a live etcd, page by page, over its gRPC API.

Not the JSON gateway: a cluster can turn that off, it knows no login by certificate, and
its base64 costs a third more. All pages are of one revision, so that what is told is a
moment of the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import grpc.aio
from attrs import field, frozen
from google.protobuf.message import DecodeError

from k8s_sdkms_plugin.verify.messages import RANGE_METHOD, RangeRequest, RangeResponse
from k8s_sdkms_plugin.verify.target import LookFailed
from kms_core.errors import one_line


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from k8s_sdkms_plugin.verify.target import Target


PAGE_OBJECTS: Final = 200
"""An object has 1.5 MiB at most by etcd's default: a page, 300."""

_MAX_MESSAGE_BYTES: Final = 512 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # etcd is on this host, or near: never through a proxy that the environment names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


@frozen
class Tls:
    """Certificates, as etcdctl's options name them.

    Attributes:
        cacert: Who may vouch for etcd, in PEM.
        cert: The client's certificate, in PEM; None without a login.
        key: Its key.
    """

    cacert: bytes
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


@frozen
class Endpoint:
    """One etcd: a gRPC target, and whether by TLS."""

    target: str
    secure: bool

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Return the endpoint that ``https://HOST:PORT`` or the like spells.

        Raises:
            ValueError: It is none.
        """
        if text.startswith("unix:/"):
            return cls(text, secure=False)
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "write https://HOST:PORT, http://HOST:PORT or unix:///PATH"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or 2379
        return cls(f"{host}:{port}", secure=parts.scheme == "https")


class Etcd:
    """A connection to one etcd. An async context manager.

    Args:
        endpoint: Where it is.
        tls: How to trust it, and to log in; needed if the endpoint is secure.
        timeout_s: Seconds for each page.
    """

    def __init__(
        self, endpoint: Endpoint, tls: Tls | None, *, timeout_s: float = 15.0
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        target = self._endpoint.target
        if not self._endpoint.secure or self._tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
            return self
        tls = self._tls
        credentials = grpc.ssl_channel_credentials(tls.cacert, tls.key, tls.cert)
        self._channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def objects(
        self, target: Target, page_objects: int = PAGE_OBJECTS
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield key and value of each object that *target* names, by key.

        If a look lasts so long that etcd has forgotten its revision, it goes on with
        the present one: then what was written meanwhile is seen as it is now.

        Raises:
            LookFailed: etcd does not answer, or refuses.
        """
        start, revision = target.key, 0
        # kine, k3s' etcd over a database, takes no limit for a single key.
        limit = 0 if target.exact else page_objects
        while True:
            page = await self._page(start, target.end, revision, limit)
            if page is None:
                revision = 0
                continue
            for item in page.kvs:
                # etcd could answer anything.
                if target.covers(item.key) and item.key >= start:
                    yield item.key, item.value
            if not page.more:
                return
            if not page.kvs or page.kvs[-1].key < start:
                raise LookFailed(f"etcd at {self._endpoint.target}: it goes in circles")
            start = page.kvs[-1].key + b"\0"
            revision = page.header.revision if revision == 0 else revision

    async def _page(
        self, start: bytes, end: bytes, revision: int, limit: int
    ) -> RangeResponse | None:
        """Return a page, or None if its revision is gone."""
        request = RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(RANGE_METHOD)
        try:
            raw = await call(request.SerializeToString(), timeout=self._timeout_s)
            return RangeResponse.FromString(raw)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE and revision:
                return None
            said = one_line(f"{error.code().name}: {error.details()}")
            raise LookFailed(f"etcd at {self._endpoint.target}: {said}") from None
        except DecodeError:
            raise LookFailed(
                f"etcd at {self._endpoint.target}: its answer is none of etcd's"
            ) from None


def read_tls(cacert: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """Return the certificates in these files; None if none is named.

    Raises:
        LookFailed: One can't be read, or they don't go together.
    """
    if cacert is None and cert is None and key is None:
        return None
    if cacert is None or (cert is None) != (key is None):
        raise LookFailed("--cacert is needed, and --cert and --key go together")
    try:
        return Tls(
            cacert.read_bytes(),
            None if cert is None else cert.read_bytes(),
            None if key is None else key.read_bytes(),
        )
    except OSError as failure:
        why = failure.strerror or type(failure).__name__
        raise LookFailed(f"{failure.filename} can't be read ({why})") from None

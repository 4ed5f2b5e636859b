"""The ways to one endpoint: connections for each client certificate that is in use."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from adapters_dsm.exchange import Exchanges
from adapters_dsm.pool import Route
from adapters_dsm.proxies import proxy_for
from adapters_dsm.tls import build_context
from adapters_dsm.transport import Connections


if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters_dsm.credentials import ClientCertificate, Credential
    from adapters_dsm.settings import DsmSettings, Endpoint
    from kms_core.ports import Clock, Telemetry


class Ways:
    """Gives each credential the connections that present its certificate.

    A session belongs to the certificate that it was opened with (dsm-api.md, 1.4), so
    that the connections of the old one stay until its session is over.

    Args:
        endpoint: Where DSM is.
        settings: The rest of what the adapter is told.
        clock: Time.
        telemetry: Gets a ProviderCallFinished for each request.
        environ: The process' environment.

    Attributes:
        latest: The way that was asked for last.

    Raises:
        ValueError: ``HTTPS_PROXY`` is no URL of an HTTP proxy; it is not quoted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: DsmSettings,
        clock: Clock,
        telemetry: Telemetry,
        environ: Mapping[str, str],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._telemetry = telemetry
        self._environ = environ
        self._proxy = proxy_for(endpoint, environ)
        self._certificate: ClientCertificate | None = None
        self.latest: Exchanges | None = None
        self._open: list[Exchanges] = []

    def of(self, credential: Credential | None) -> Exchanges:
        """Return the way for *credential*, the same for the same certificate.

        Args:
            credential: What is presented; None for any way that there is.
        """
        if self.latest is not None and (
            credential is None or credential.certificate == self._certificate
        ):
            return self.latest
        self._certificate = None if credential is None else credential.certificate
        self.latest = self._made(self._certificate)
        self._open.append(self.latest)
        return self.latest

    async def leave(self, way: Exchanges) -> None:
        """Close *way* unless it is the latest; what is in flight on it goes on."""
        if way is not self.latest and way in self._open:
            self._open.remove(way)
            await way.aclose()

    async def renew(self) -> None:
        """Let later requests use new connections; those in flight go on."""
        for way in list(self._open):
            await way.renew()

    async def aclose(self) -> None:
        """Close every connection; later requests fail."""
        for way in self._open:
            await way.aclose()

    def _made(self, certificate: ClientCertificate | None) -> Exchanges:
        settings = self._settings
        route = Route(
            endpoint=self._endpoint,
            proxy=self._proxy,
            build_context=functools.partial(
                build_context,
                settings.ca_file,
                self._environ,
                None if certificate is None else certificate.pem,
            ),
            max_connections=settings.max_connections,
            keepalive_s=settings.keepalive_s,
        )
        return Exchanges(
            Connections(route, self._clock),
            self._endpoint,
            settings.user_agent,
            self._clock,
            self._telemetry,
        )

"""The server: a model over HTTPS from a thread of this process.

`dsm_emulator.listening` does the listening, with uvicorn's protocol; this module keeps
what outlives a stop: the model, the port, the CA.
"""

import contextlib
import itertools
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from dsm_emulator.asgi import DsmApp
from dsm_emulator.dsm import Dsm
from dsm_emulator.listening import Listening, Site
from dsm_emulator.tls import ClientCertificates, Tls, TlsForm


CA_FILE_NAME = "ca.pem"


class EmulatorServer:
    """A `Dsm` that listens; a context manager.

    `stop` closes the listener and resets every connection; `start` again listens on the
    same port, with the model, the CA and thus `url` and `ca_file` as they were.

    Attributes:
        dsm: The model; see `dsm_emulator.dsm` for using it from another thread.
    """

    def __init__(  # noqa: PLR0913 - what a listener is made of
        self,
        dsm: Dsm,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: bool = True,
        folder: Path | None = None,
        control_token: str | None = None,
        client_certificates: ClientCertificates = ClientCertificates.OPTIONAL,
        authority: trustme.CA | None = None,
    ) -> None:
        """Prepare a server; `start`, or entering it, makes it listen.

        Args:
            dsm: The model to serve.
            host: The address to listen on.
            port: 0 takes a free one, and keeps it.
            tls: Whether to speak HTTPS, under an own CA.
            folder: Where to put `ca.pem`; a temporary folder, removed by `close`, when
                absent.
            control_token: Opens the control API; without one there is none.
            client_certificates: Whether the handshake asks for one. Those are accepted
                that apps have as credentials, and those of the own CA.
            authority: The CA, such as that of another server; an own one when absent.
        """
        self.dsm = dsm
        self._app = DsmApp(dsm, control_token)
        self._host = host
        self._port = port
        self._folder = folder
        self._has_ca_file = False
        self._tls = Tls(host, client_certificates, authority) if tls else None
        self._trusts_revision: int | None = None
        self._numbers = itertools.count(1)
        self._listening: Listening | None = None
        self._cleanups = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL without a slash at its end; known from the first `start` on."""
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    @property
    def port(self) -> int:
        """The port; known from the first `start` on."""
        return self._port

    @property
    def ca_file(self) -> Path:
        """The CA's certificate as PEM; there from the first `start` until `close`.

        Raises:
            ValueError: This server speaks plain HTTP, or has not been started.
        """
        if not self._has_ca_file or self._folder is None:
            raise ValueError("there is a CA file with TLS only, once started")
        return self._folder / CA_FILE_NAME

    @property
    def authority(self) -> trustme.CA:
        """The CA, for a second server whose clients trust both.

        Raises:
            ValueError: This server speaks plain HTTP.
        """
        return self._speaks_tls().authority

    def issue_client_certificate(self, name: str) -> trustme.LeafCert:
        """Return a client certificate of the own CA, with its key.

        Raises:
            ValueError: This server speaks plain HTTP.
        """
        return self._speaks_tls().issue_client_certificate(name)

    def start(self) -> None:
        """Listen, in a thread of its own; return once clients can connect.

        Raises:
            OSError: The port is taken.
        """
        if self._listening is not None:
            return
        if self._tls is not None and not self._has_ca_file:
            self._write_ca_file(self._tls)
        site = Site(
            app=self._app,
            host=self._host,
            port=self._port,
            context=None if self._tls is None else self._context,
            faults=self.dsm.faults,
            journal=self.dsm.journal,
            numbers=self._numbers,
        )
        self._listening = Listening(site)
        self._port = self._listening.port

    def stop(self) -> None:
        """Close the listener and reset all connections; the model stays as it is."""
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def close(self) -> None:
        """Stop, and remove the temporary folder if there is one."""
        self.stop()
        self._cleanups.close()

    def _write_ca_file(self, tls: Tls) -> None:
        if self._folder is None:
            made = tempfile.TemporaryDirectory(prefix="dsm-emulator-")
            self._folder = Path(self._cleanups.enter_context(made))
            self._cleanups.callback(self._forget_folder)
        tls.authority.cert_pem.write_to_path(self._folder / CA_FILE_NAME)
        self._has_ca_file = True

    def _forget_folder(self) -> None:
        self._folder = None
        self._has_ca_file = False

    def _speaks_tls(self) -> Tls:
        if self._tls is None:
            raise ValueError("there are certificates with TLS only")
        return self._tls

    def _context(self, form: TlsForm) -> ssl.SSLContext:
        tls = self._speaks_tls()
        with self.dsm.lock:
            if self.dsm.revision != self._trusts_revision:
                self._trusts_revision = self.dsm.revision
                tls.trust_clients(self.dsm.client_trust())
        return tls.context(form)

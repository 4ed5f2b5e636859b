"""The server: a model over HTTPS from a thread of this process.

`dsm_emulator.listening` does the listening, with uvicorn's protocol; this module keeps
what outlives a stop: the model, the port, the CA.
"""

import contextlib
import itertools
import re
import ssl
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from dsm_emulator.asgi import DsmApp
from dsm_emulator.dsm import Dsm
from dsm_emulator.folder import write_private
from dsm_emulator.keeper import Keeper
from dsm_emulator.listening import Listening, Site
from dsm_emulator.tls import ClientCertificates, Tls, TlsForm


CA_FILE_NAME = "ca.pem"
# None of them is a file that the folder has otherwise; see `dsm_emulator.folder`.
_FILE_NAME = re.compile(r"(?!ca\b)[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class EmulatorServer:
    """A `Dsm` that listens; a context manager.

    `stop` closes the listener and resets every connection; `start` again listens on the
    same port, with the model, the CA and thus `url` and `ca_file` as they were.

    Attributes:
        dsm: The model; see `dsm_emulator.dsm` for using it from another thread.
        starts: How often it has started to listen.
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
        more_hosts: tuple[str, ...] = (),
        keeper: Keeper | None = None,
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
            more_hosts: Addresses to listen on besides, on the same port.
            keeper: Keeps the state of the model; nobody does when absent.
        """
        self.dsm = dsm
        self.starts = 0
        self._app = DsmApp(dsm, control_token, self, keeper)
        self._keeper = keeper
        self._host = host
        self._more_hosts = more_hosts
        self._port = port
        self._control_port = None if control_token is None else 0
        self._folder = folder
        self._has_ca_file = False
        self._tls = (
            Tls((host, *more_hosts), client_certificates, authority) if tls else None
        )
        self._trusts_revision: int | None = None
        self._numbers = itertools.count(1)
        self._listening: Listening | None = None
        self._restarting = threading.Lock()
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
        return self.url_at(self._host)

    def url_at(self, host: str) -> str:
        """Return the URL at one of the addresses."""
        scheme = "http" if self._tls is None else "https"
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{self._port}"

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
            hosts=(self._host, *self._more_hosts),
            port=self._port,
            control_port=self._control_port,
            context=None if self._tls is None else self._context,
            faults=self.dsm.faults,
            journal=self.dsm.journal,
            numbers=self._numbers,
        )
        self._listening = Listening(site)
        self._port = self._listening.port
        self._control_port = self._listening.control_port
        self.starts += 1
        if self._tls is not None:
            self.dsm.tls_public_keys_der = [self._tls.public_key_der]

    def stop(self) -> None:
        """Close the listener and reset all connections; the model stays as it is."""
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def restart_soon(self) -> None:
        """Stop and start, in a thread of its own, so that a request may ask for it."""
        thread = threading.Thread(target=self._restart, name="dsm-emulator-restart")
        thread.daemon = True
        thread.start()

    def save(self) -> Path | None:
        """Write the state of the model; return where, or None when none is kept."""
        return None if self._keeper is None else self._keeper.save()

    def write_client_certificate(self, name: str) -> tuple[Path, Path]:
        """Write a new client certificate, and its key, into the folder.

        Returns:
            Where they are.

        Raises:
            ValueError: *name* is no name for a file, or there is no TLS.
        """
        if not _FILE_NAME.fullmatch(name):
            raise ValueError("a name has 1 to 64 letters, digits, hyphens and points")
        if self._folder is None:
            raise ValueError("the emulator has no folder yet")
        issued = self.issue_client_certificate(name)
        certificate = self._folder / f"{name}.pem"
        key = self._folder / f"{name}-key.pem"
        write_private(certificate, issued.cert_chain_pems[0].bytes().decode())
        write_private(key, issued.private_key_pem.bytes().decode())
        return certificate, key

    @property
    def control_url(self) -> str | None:
        """Where the control API is reached whatever goes wrong; None: there is none."""
        if self._control_port is None:
            return None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._control_port}"

    def kill_address(self, host: str) -> None:
        """Let one address refuse connections, until `revive_address` or a restart.

        Connections that stand stay; only a stop resets them.

        Raises:
            ValueError: It doesn't listen there.
        """
        self._set_dead(host, is_dead=True)

    def revive_address(self, host: str) -> None:
        """Undo `kill_address`.

        Raises:
            ValueError: It doesn't listen there.
        """
        self._set_dead(host, is_dead=False)

    def accepts(self) -> bool:
        """Return whether connections are being accepted at the first address."""
        return self._listening is not None and self._listening.accepts(self._host)

    def close(self) -> None:
        """Stop, and remove the temporary folder if there is one."""
        with self._restarting:
            self.stop()
        self._cleanups.close()

    def _restart(self) -> None:
        with self._restarting:
            if self._listening is not None:
                self.stop()
                self.start()

    def _set_dead(self, host: str, *, is_dead: bool) -> None:
        if self._listening is None or host not in (self._host, *self._more_hosts):
            raise ValueError(f"the emulator doesn't listen on {host[:80]!r}")
        self._listening.set_dead(host, is_dead=is_dead)

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

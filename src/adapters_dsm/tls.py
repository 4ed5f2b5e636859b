"""Whom to trust: the SSL context, with the rules of the Go plugin's runtime.

Go's crypto/x509 on Linux (root_unix.go, root_linux.go) reads the first of some
well-known bundles, and besides every certificate in some well-known directories,
whatever the files are called. ``SSL_CERT_FILE`` stands in for the bundles,
``SSL_CERT_DIR`` (several directories, parted by colons) for the directories. OpenSSL
knows the same two names but reads only directories of hashed names, so the reading is
done here.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kms_core.errors import CredentialRefused, ProviderUntrusted


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PEM_BLOCK: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----"
)
_DIRECTORIES: Final = ("/etc/ssl/certs", "/etc/pki/tls/certs")


def build_context(
    ca_file: Path | None,
    environ: Mapping[str, str],
    client_pem: bytes | None = None,
) -> ssl.SSLContext:
    """Return a client context: TLS 1.2 or later, chain and host name checked.

    It reads files for 20 to 100 ms, so call it in a thread.

    Args:
        ca_file: The CAs to trust instead of the system's store, or None.
        environ: Where ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are looked up.
        client_pem: Our certificate with its chain and its key, or None; a secret.

    Raises:
        ProviderUntrusted: There is nothing to trust.
        CredentialRefused: OpenSSL does not take our certificate.
    """
    context = bare_context()
    if client_pem is not None:
        _load_client_certificate(context, client_pem)
    if ca_file is not None:
        try:
            # OpenSSL would wait for whoever writes to a pipe, for ever.
            if not stat.S_ISREG(ca_file.stat().st_mode):
                raise ProviderUntrusted(f"ca_file {ca_file}: it is not a regular file")
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ValueError) as error:
            # The path is the operator's own; OSError's text would repeat it.
            reason = _reason(error)
            raise ProviderUntrusted(f"ca_file {ca_file}: {reason}") from error
    else:
        _load_system_store(context, environ)
    if not context.cert_store_stats()["x509"]:
        raise ProviderUntrusted(
            "no CA certificate was found: neither in the system's store nor where "
            "SSL_CERT_FILE and SSL_CERT_DIR point"
        )
    return context


def bare_context() -> ssl.SSLContext:
    """Return a context with our rules that trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As in Go: a certificate in the store is an anchor even if it is not a root (on
    # appliances people pin the intermediate), and the Common Name is no host name.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_client_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # ssl reads files alone, and the key must come to lie in none: so it is a file of
    # memory, and exactly what was checked, whatever became of the files meanwhile.
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        # A key that is too short for OpenSSL's security level, for example.
        reason = getattr(error, "reason", None) or type(error).__name__
        raise CredentialRefused(
            f"client_cert_file: OpenSSL does not take it ({reason})"
        ) from error
    finally:
        os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate in PEM form"
    if isinstance(error, OSError) and error.strerror:
        return f"it can't be read ({error.strerror})"
    return "it can't be read"


def _load_system_store(context: ssl.SSLContext, environ: Mapping[str, str]) -> None:
    own_file = environ.get("SSL_CERT_FILE")
    for bundle in (own_file,) if own_file else _BUNDLES:
        if _load(context, Path(bundle)):
            break
    own_directories = environ.get("SSL_CERT_DIR")
    for directory in own_directories.split(":") if own_directories else _DIRECTORIES:
        for path in _certificate_files(Path(directory)):
            _load(context, path)


def _load(context: ssl.SSLContext, path: Path) -> bool:
    """Add what *path* holds; return whether it could be read at all."""
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        # No certificate in it, or a broken one, for which OpenSSL drops the whole file
        # and Go that one alone.
        for block in _PEM_BLOCK.findall(path.read_text("ascii", "replace")):
            with contextlib.suppress(ssl.SSLError, ValueError):
                context.load_verify_locations(cadata=block)
    except (OSError, ValueError):
        return False
    return True


def _certificate_files(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                # OpenSSL's hashed names are links within the directory.
                hashed = entry.is_symlink() and os.sep not in str(
                    Path(entry.path).readlink()
                )
                if entry.is_file() and not hashed:
                    yield Path(entry.path)

"""What the adapter has to be told: where DSM is, which key, how to talk to it.

The values refuse what could never work with a ValueError that names the field and the
remedy, and never quotes the value: it may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_dsm.credential_source import CredentialSource


MAX_NAME_CHARS: Final = 4096
"""Longest name of a key (DSM's OpenAPI, SobjectRequest.name)."""

MAX_CREDENTIAL_CHARS: Final = 4096
"""Longest API key or token; DSM's have 164 and 86 characters."""

MAX_ENDPOINTS: Final = 8
"""Most endpoints; a call could not try more within its deadline."""

_HEADER_SAFE = re.compile(rf"[!-~]{{1,{MAX_CREDENTIAL_CHARS}}}")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9.])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH = re.compile(r"[A-Za-z0-9._~%/-]*")


@frozen(repr=False)
class Secret:
    """A text that never shows in a repr, a log or an error."""

    _value: str

    def reveal(self) -> str:
        """Return the text itself, to be sent and to be kept nowhere."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"


def as_kid(text: str) -> str | None:
    """Return *text* as DSM spells a UUID, in lower case, or None if it is none."""
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        return None
    # uuid.UUID also takes braces, a urn: prefix and no hyphens; DSM writes none of it.
    return canonical if canonical == text.lower() else None


def _optional_kid(text: str | None) -> str | None:
    kid = None if text is None else as_kid(text)
    if text is not None and kid is None:
        raise ValueError("key_id must be a UUID, such as DSM shows for the key")
    return kid


@frozen(kw_only=True)
class KeySelector:
    """How the key is named: by exactly one of its two handles.

    Attributes:
        name: The key's name; after a rotation it leads to the new key.
        kid: The key's UUID, in lower case; it names one key version for ever.
    """

    name: str | None = None
    kid: str | None = field(default=None, converter=_optional_kid)

    def __attrs_post_init__(self) -> None:
        if (self.name is None) == (self.kid is None):
            raise ValueError("give exactly one of key_name and key_id")
        if self.name is not None and not _fit_name(self.name):
            raise ValueError(
                f"key_name must be one line of 1 to {MAX_NAME_CHARS} characters"
            )


def _fit_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= MAX_NAME_CHARS and "\n" not in name


@frozen
class Endpoint:
    """Where DSM's REST API is.

    Attributes:
        scheme: ``https``, or ``http`` for a DSM on loopback in a test.
        host: Host name or address, without brackets; fit for an error text.
        port: TCP port.
        base_url: ``scheme://host[:port][/path]`` without a trailing slash.
    """

    scheme: str
    host: str
    port: int
    base_url: str

    @property
    def authority(self) -> str:
        """``host[:port]``, as in ``base_url``: what an error text shows."""
        return urlsplit(self.base_url).netloc

    @property
    def secure(self) -> bool:
        """Whether TLS protects it."""
        return self.scheme == "https"

    @classmethod
    def parse(cls, text: str, *, allow_http: bool = False) -> Endpoint:
        """Return the endpoint that *text* spells.

        Args:
            text: A URL; slashes at its end are dropped, since the Go plugin's users
                have them.
            allow_http: Whether plain http to a loopback address is welcome.

        Raises:
            ValueError: It is no such URL. The text says what would be right.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
            host = parts.hostname
        except ValueError:
            raise _bad_endpoint() from None
        if not _HEADER_SAFE.fullmatch(text) or parts.scheme not in ("http", "https"):
            raise _bad_endpoint()
        if host is None or not is_host(host) or port == 0:
            raise _bad_endpoint()
        if not _PATH.fullmatch(parts.path):
            raise _bad_endpoint()
        if parts.username is not None or parts.password is not None:
            raise ValueError("sdkms_endpoint must not hold a user name or password")
        if parts.query or parts.fragment or text.endswith(("?", "#")):
            raise ValueError("sdkms_endpoint must end before any '?' or '#'")
        if parts.scheme == "http" and not (allow_http and is_loopback(host)):
            raise ValueError("sdkms_endpoint must begin with https://")
        shown = f"[{host}]" if ":" in host else host
        shown_port = "" if port is None else f":{port}"
        base_url = f"{parts.scheme}://{shown}{shown_port}{parts.path.rstrip('/')}"
        default_port = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, host, port or default_port, base_url)


def _bad_endpoint() -> ValueError:
    return ValueError("sdkms_endpoint must be a URL such as https://eu.smartkey.io")


def is_host(text: str) -> bool:
    """Return whether *text* can be a host name or an address, in lower case.

    What ends in a number is an address to whoever resolves it (WHATWG URL, 3.5), and
    some read 10.1 as 10.0.0.1: so it must be a whole and possible one.
    """
    name = _HOST_NAME.fullmatch(text) is not None
    if name and not _NUMBER.fullmatch(text.rstrip(".").rpartition(".")[2]):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_loopback(host: str) -> bool:
    """Return whether *host* is ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_api_key(api_key: Secret) -> None:
    """Check what can be checked of an API key without asking DSM.

    DSM's accelerators use keys of another look than ``base64(uuid:secret)``, so the
    form is not checked further.

    Raises:
        ValueError: It could not stand in a header. The text does not quote it.
    """
    if not _HEADER_SAFE.fullmatch(api_key.reveal()):
        raise ValueError(
            "must be the API key of the DSM app as DSM shows it: visible ASCII, "
            "without spaces or line breaks"
        )


def _check_endpoints(
    _: object, __: Attribute[Any], value: tuple[Endpoint, ...]
) -> None:
    if not 0 < len(value) <= MAX_ENDPOINTS:
        raise ValueError(f"give 1 to {MAX_ENDPOINTS} endpoints")
    if len({endpoint.base_url for endpoint in value}) < len(value):
        raise ValueError("an endpoint is given more than once")


def _check_positive(_: object, attribute: Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than zero")


@frozen(kw_only=True)
class DsmSettings:
    """Everything that the adapter is told.

    Attributes:
        endpoints: Where DSM's REST API is, the preferred one first. All lead to one
            DSM account: what one of them says of the key holds for all.
        selector: The configured key.
        credential: Where the app's credential comes from.
        ca_file: PEM file of the CAs to trust *instead of* the system's store. It
            replaces the store, since whoever names the CA of an appliance wants no
            other one to speak for it; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` change
            the system's store and so do nothing beside it.
        max_connections: How many connections there are at most to each endpoint;
            further calls queue. Those of a pool that is being replaced come on top
            until the last request on each is over.
        keepalive_s: After how many idle seconds a connection is closed by us; below
            the idle limits of common load balancers, so that it is us, not them.
        user_agent: What we call ourselves to DSM.
    """

    endpoints: tuple[Endpoint, ...] = field(validator=_check_endpoints)
    selector: KeySelector
    credential: CredentialSource
    ca_file: Path | None = None
    max_connections: int = field(default=64, validator=_check_positive)
    keepalive_s: float = field(default=60.0, validator=_check_positive)
    user_agent: str = "k8s-sdkms-plugin"

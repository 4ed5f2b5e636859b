"""Which proxy to use: ``HTTPS_PROXY`` and ``NO_PROXY`` as the Go plugin reads them.

Source: golang.org/x/net/http/httpproxy. Upper case wins over lower case; a loopback
endpoint is never proxied; NO_PROXY is a list, parted by commas, of ``*``, addresses,
networks, and names, each with an optional port: ``example.com`` stands for itself and
all below it, ``.example.com`` and ``*.example.com`` for what is below it alone.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from attrs import frozen

from adapters_dsm.settings import Secret, is_host, is_loopback


if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters_dsm.settings import Endpoint


@frozen
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: Where it is, without credentials.
        authorization: Value of its Proxy-Authorization header, if it wants one.
    """

    url: str
    authorization: Secret | None = None


def proxy_for(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy on the way to *endpoint*, or None for the direct way.

    Args:
        endpoint: DSM; plain http exists on loopback only, which is never proxied.
        environ: Where the variables are looked up.

    Raises:
        ValueError: The variable holds no URL of an HTTP proxy. Its value may hold a
            password and is not quoted.
    """
    text = environ.get("HTTPS_PROXY") or environ.get("https_proxy")
    if not text or is_loopback(endpoint.host):
        return None
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if any(_covers(word.strip().lower(), endpoint) for word in excluded.split(",")):
        return None
    return _parse(text)


def _parse(text: str) -> Proxy:
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad_proxy() from None
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not is_host(name):
        raise _bad_proxy()
    host = f"[{name}]" if ":" in name else name
    url = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    if parts.username is None:
        return Proxy(url)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    basic = base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(url, Secret(f"Basic {basic}"))


def _bad_proxy() -> ValueError:
    return ValueError("HTTPS_PROXY must be a URL such as http://proxy.example.com:3128")


def _covers(word: str, endpoint: Endpoint) -> bool:
    if not word or word == "*":
        return bool(word)
    host = endpoint.host.rstrip(".")
    if "/" in word:
        return _in_network(host, word)
    name, port = _split_port(word)
    if port is not None and port != endpoint.port:
        return False
    if _address(name) is not None:
        return _address(name) == _address(host)
    if name.startswith((".", "*.")):
        return host.endswith(name.removeprefix("*"))
    return host == name or host.endswith(f".{name}")


def _split_port(word: str) -> tuple[str, int | None]:
    if _address(word) is not None:
        return word, None
    name, colon, digits = word.rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit():
        return word.strip("[]"), None
    return name.strip("[]"), int(digits)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_network(host: str, word: str) -> bool:
    address = _address(host)
    try:
        return address is not None and address in ipaddress.ip_network(
            word, strict=False
        )
    except ValueError:
        return False

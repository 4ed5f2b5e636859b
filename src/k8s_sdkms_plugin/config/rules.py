"""Rules for single settings, and for settings together."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any, Final

import httpx

from adapters_dsm.proxies import proxy_for
from adapters_dsm.settings import MAX_NAME_CHARS, Endpoint, as_kid
from k8s_sdkms_plugin.config.findings import Finding, error, warning
from k8s_sdkms_plugin.config.model import ListenAddress
from kms_core.key_id import is_legacy


if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


_NO_BLANKS: Final = {
    "sdkms_endpoint",
    "socket_file",
    "ca_file",
    "key_id",
    "state_dir",
}
_MAX_COAST_S: Final = 7 * 24 * 3600
_MIN_PROBE_INTERVAL_S: Final = 60


def within_a_setting(name: str, value: Any) -> list[Finding]:
    """Return what is wrong with one value that has the right type."""
    if name in _NO_BLANKS and value != value.strip():
        return [error(name, "has blanks around it", "remove them")]
    rule = _RULES.get(name)
    return [] if rule is None else rule(value)


def across_settings(values: dict[str, Any], given: Collection[str]) -> list[Finding]:
    """Return what is wrong with settings together.

    Args:
        values: The settings that are given and right in themselves.
        given: Names of all that are given.
    """
    findings = [*_one_key(given), *_key_moved(values)]
    endpoint = values.get("sdkms_endpoint")
    if endpoint is not None:
        allow_http = values.get("allow_http_on_loopback", False)
        findings += _endpoint(endpoint, allow_http=allow_http)
    if "write_format" not in given:
        findings.append(
            warning(
                "write_format",
                "is absent, so seeds are written as the Go plugin wrote them: "
                "kube-apiserver can't see a rotation, and no old key may be "
                "deactivated in DSM",
                'set it to "native" once every node runs this plugin, or to '
                '"go-plugin" to confirm',
            )
        )
    return findings


def proxy_findings(
    values: dict[str, Any], environment: Mapping[str, str]
) -> list[Finding]:
    """Return what is wrong with the proxy that the environment names."""
    try:
        endpoint = Endpoint.parse(values.get("sdkms_endpoint", ""), allow_http=True)
    except ValueError:
        return []
    try:
        proxy = proxy_for(endpoint, environment)
        if proxy is not None:
            httpx.URL(proxy.url)
    except (ValueError, httpx.InvalidURL):
        # The URL may hold a password.
        what = "names no HTTP proxy that can be used"
        remedy = "write it as http://HOST:PORT, or exempt DSM's host with NO_PROXY"
        return [error("HTTPS_PROXY", what, remedy)]
    return []


def _one_key(given: Collection[str]) -> list[Finding]:
    if "key_name" in given and "key_id" in given:
        return [error("key_name", "is given together with key_id", "keep one of them")]
    if "key_name" not in given and "key_id" not in given:
        return [
            error(
                "key_name",
                "is missing, and so is key_id",
                "add key_name with the key's name in DSM (it follows a rotation), or "
                "key_id with its UUID",
            )
        ]
    return []


def _key_moved(values: dict[str, Any]) -> list[Finding]:
    moves = values.get("kid_map")
    kid = as_kid(values.get("key_id", ""))
    if moves is None or kid not in dict(moves.pairs):
        return []
    what = "says that the key in key_id has moved, so that it can't be the one in use"
    return [error("kid_map", what, "put the new UUID into key_id")]


def _endpoint(text: str, *, allow_http: bool) -> list[Finding]:
    try:
        endpoint = Endpoint.parse(text, allow_http=allow_http)
        httpx.URL(endpoint.base_url)
    except httpx.InvalidURL:
        remedy = "sdkms_endpoint must be a URL such as https://eu.smartkey.io"
        return [error("sdkms_endpoint", "names no possible host", remedy)]
    except ValueError as problem:
        remedy = str(problem)
        if text.startswith("http://"):
            remedy += "; for an emulator on loopback set allow_http_on_loopback to true"
        return [error("sdkms_endpoint", "is not usable", remedy)]
    if endpoint.secure:
        return []
    return [
        warning(
            "sdkms_endpoint",
            "is http: API key and seeds travel in the clear",
            "use https for anything but an experiment",
        )
    ]


def _key_name(value: str) -> list[Finding]:
    if len(value) > MAX_NAME_CHARS:
        what = f"has more than {MAX_NAME_CHARS} characters"
        return [error("key_name", what, "copy the key's name from DSM")]
    return []


def _key_id(value: str) -> list[Finding]:
    if as_kid(value) is None:
        example = str(uuid.UUID(int=0))
        return [error("key_id", "is not a UUID", f"write it as DSM does: {example}")]
    return []


def _accept_key_ids(value: tuple[str, ...]) -> list[Finding]:
    return [
        error(
            "accept_key_ids",
            f"entry {index} is not a Go plugin's key_id",
            "each is a SHA-256 in 64 lower-case hex digits, as stored in etcd",
        )
        for index, item in enumerate(value, 1)
        if not is_legacy(item)
    ]


def _socket_file(value: str) -> list[Finding]:
    path = value.removeprefix("unix://")
    if path.startswith(("@", "/@")):
        return [
            error(
                "socket_file",
                "is an abstract socket, which has no permissions: every process of "
                "the host could decrypt",
                "name a file, such as /var/run/kms-plugin/socket.sock",
            )
        ]
    if not path.startswith("/"):
        return [
            error(
                "socket_file",
                "is not an absolute path",
                "name a file, such as /var/run/kms-plugin/socket.sock",
            )
        ]
    return []


def _absolute(name: str, value: str) -> list[Finding]:
    if not value.startswith("/"):
        return [error(name, "is not an absolute path", "write the whole path")]
    return []


def _socket_mode(value: int) -> list[Finding]:
    if value & 0o600 != 0o600:  # noqa: PLR2004 - read and write for the owner
        what = "keeps the daemon's own user out"
        return [error("socket_mode", what, 'use "0600" or "0660"')]
    if value & 0o007:
        return [
            warning(
                "socket_mode",
                "lets every user of the host ask for seeds",
                'use "0600", or "0660" with socket_group',
            )
        ]
    return []


def _coast_for(value: float) -> list[Finding]:
    if value > _MAX_COAST_S:
        return [error("coast_for", "is more than seven days", 'use at most "7d"')]
    return []


def _probe_interval(value: float) -> list[Finding]:
    if value < _MIN_PROBE_INTERVAL_S:
        what = "is less than a minute, and DSM bills each probe"
        return [warning("probe_interval", what, 'use at least "1m"')]
    return []


def _listen(value: str) -> list[Finding]:
    try:
        ListenAddress.parse(value)
    except ValueError as problem:
        return [error("listen", str(problem), 'write "127.0.0.1:9472" or "[::1]:9472"')]
    return []


_RULES: Final[dict[str, Callable[[Any], list[Finding]]]] = {
    "accept_key_ids": _accept_key_ids,
    "ca_file": functools.partial(_absolute, "ca_file"),
    "state_dir": functools.partial(_absolute, "state_dir"),
    "coast_for": _coast_for,
    "key_id": _key_id,
    "key_name": _key_name,
    "listen": _listen,
    "probe_interval": _probe_interval,
    "socket_file": _socket_file,
    "socket_mode": _socket_mode,
}

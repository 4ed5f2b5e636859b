"""A config that loads, ways to change it, and examples of what must be refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from k8s_sdkms_plugin.config.loading import LoadedConfig, load


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


SECRET: Final = "U0VDUkVUOm5vdC10by1iZS1xdW90ZWQ="
KID: Final = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
OTHER_KID: Final = "9c1f7e02-5d3b-4a86-b0c4-7f2ad91e6b35"
HASH: Final = "b9626df6ee008b246363fa1a9c32af1926b8fbbae8772af30383367aac70a57a"

GO_PLUGIN: Final[dict[str, Any]] = {
    "sdkms_endpoint": "https://sdkms.fortanix.com",
    "api_key": SECRET,
    "key_name": "Kubernetes Secret Encryption Key",
    "socket_file": "/var/run/kmsplugin/socket.sock",
}
BASE: Final[dict[str, Any]] = GO_PLUGIN | {"write_format": "native"}

_REFUSED: Final[dict[str, tuple[Any, ...]]] = {
    "sdkms_endpoint": (
        *(5, None, "", "  ", "dsm.example.com", "ftp://dsm.example.com"),
        *("http://dsm.example.com", "http://127.0.0.1:8080", "https://"),
        *("https://dsm.example.com\n", " https://dsm.example.com"),
        "https://dsm .example.com",
    ),
    "api_key": (5, None, "", " ", "a b", "a\nb", "\u00e9", [], {}),
    "key_name": (5, None, "", "  ", "k" * 4097, ["k"]),
    "key_id": (5, "", "kubernetes", f"{{{KID}}}", f"urn:uuid:{KID}"),
    "socket_file": (5, "", "rel.sock", "@name", "/@name", "unix://@n"),
    "write_format": (1, None, True, "", "Native", "v1"),
    "api_version": (2, "v1", "V2", ""),
    "protection": ("none", "", 1, "local_kek", None),
    "state_dir": (5, "", None, "state", "~/state", " /state", "/state "),
    "accept_key_ids": (
        *(HASH, {}, 5, None, [5], [""], [HASH.upper()], [HASH, "f" * 63]),
    ),
    "kid_map": (
        *([], "", None, 5, {KID: 5}, {KID: ""}, {"a": KID}, {KID: KID}),
        {KID: OTHER_KID, OTHER_KID: KID},
    ),
    "ca_file": (5, "", "ca.pem"),
    "allow_http_on_loopback": (1, 0, "true", None, "yes"),
    "socket_mode": (600, 0o600, "0888", "0400", "rw", "00600"),
    "socket_group": (0, "", None),
    "listen": (
        *(9472, "", None, "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", ":9472"),
        *("0.0.0.0:9472", "localhost:9472", "10.0.0.1:9472", "[::1:9472"),
        *("http://127.0.0.1:9472", "127.0.0.1:9472\n", " 127.0.0.1:9472"),
        *("127.0.0.1:65536", "127.0.0.1:100000", "[::]:9472", "127.0.0.256:9472"),
    ),
    "on_denied": ("forget", "", None),
    "on_outage": ("stay", "", True),
    "on_refused": ("stay", 1, None),
    "coast_for": (
        *(0, -1, 1.5, True, None, 10**10, "", "0s", "0h0m", "-1h", "1 h", "h"),
        *("1h1d", "\u0663s", "1.5h", "9" * 50 + "s", "1h\n"),
    ),
    "probe_interval": (0, "0s", "often", []),
    "log_format": ("xml", "JSON", 1),
    "log_level": ("trace", "INFO", None),
}
_ACCEPTED: Final[dict[str, tuple[Any, ...]]] = {
    "sdkms_endpoint": (
        *("https://eu.smartkey.io", "https://eu.smartkey.io/", "https://[::1]:8443"),
        "HTTPS://dsm.example.com:8443/path/",
    ),
    "api_key": ("QUJD==",),
    "key_name": ("Schl\u00fcssel / 1",),
    "key_id": (KID, KID.upper()),
    "socket_file": ("/run/k.sock", "unix:///run/k.sock"),
    "write_format": ("native", "go-plugin"),
    "api_version": ("v2", "v2beta1"),
    "protection": ("local-kek", "direct"),
    "state_dir": ("/var/lib/k8s-sdkms-plugin", "/"),
    "accept_key_ids": ([], [HASH]),
    "kid_map": ({}, {OTHER_KID: KID}, {OTHER_KID.upper(): KID}),
    "ca_file": ("/etc/ca.pem",),
    "allow_http_on_loopback": (True, False),
    "socket_mode": ("0600", "660", "0666"),
    "socket_group": ("kube", "1001"),
    "listen": ("127.0.0.1:9472", "127.1.2.3:1", "[::1]:9472", "[::1]:065535"),
    "on_denied": ("drop", "keep"),
    "on_outage": ("coast", "fail"),
    "on_refused": ("coast", "fail"),
    "coast_for": (1, 3600, "12h", "1d2h3m4s", "0h1m", "7d"),
    "probe_interval": (60, "60s", "1m", "2d"),
    "log_format": ("json", "text"),
    "log_level": ("debug", "info", "warning", "error"),
}
REFUSED: Final[list[tuple[str, Any]]] = [(n, v) for n in _REFUSED for v in _REFUSED[n]]
ACCEPTED: Final[list[tuple[str, Any]]] = [
    (n, v) for n in _ACCEPTED for v in _ACCEPTED[n]
]


def changed(name: str, value: Any) -> dict[str, Any]:
    """Return a good config in which *name* has *value*."""
    content = BASE | {name: value}
    if name == "key_id":
        del content["key_name"]
    return content


def written(folder: Path, content: Any, *, mode: int = 0o600) -> Path:
    """Return a config file with *content*: a JSON value, a text, or bytes."""
    path = folder / "config.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def loaded(
    folder: Path,
    content: Any,
    environment: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
) -> LoadedConfig:
    """Return *content* as the loader sees it."""
    return load(written(folder, content), environment or {}, strict=strict)


def error_fields(result: LoadedConfig) -> list[str]:
    """Return what the errors are about, in their order."""
    return [finding.field for finding in result.errors]

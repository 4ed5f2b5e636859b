"""Every setting, once: type, default, what it is for. All else is generated from here.

The first five are the Go plugin's; without any other our answers are the Go plugin's
too, so that its file works unchanged.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import Any, Final

import attrs
from attrs import frozen

from adapters_dsm.settings import Secret
from k8s_sdkms_plugin.config.kinds import KidMap, Mode, Seconds
from kms_core.service import ApiVersion
from kms_core.standing import OnDenied, OnTrouble


ENVIRONMENT_PREFIX = "K8S_SDKMS_PLUGIN_"

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:]{2,39})\]|(?P<v4>[0-9.]{7,15})):(?P<port>[0-9]{1,9})"
)
_MAX_PORT: Final = 65535


class WriteFormat(enum.Enum):
    """Which sealed seeds and key_ids are written. All are always read."""

    NATIVE = "native"
    GO_PLUGIN = "go-plugin"


class Protection(enum.Enum):
    """What protects a seed in the native format."""

    LOCAL_KEK = "local-kek"
    DIRECT = "direct"


class LogFormat(enum.Enum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class LogLevel(enum.Enum):
    """Least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def setting(what: str, *, default: Any = attrs.NOTHING, example: str = "") -> Any:
    """Declare a setting.

    Args:
        what: What it is for: one or more sentences, for the documentation.
        default: Its default; without one it must be given.
        example: A value as it would stand in JSON, for the documentation.
    """
    metadata = {"what": what, "example": example}
    return attrs.field(default=default, metadata=metadata)


@frozen
class ListenAddress:
    """A loopback address and a TCP port; the host without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Return the address that *text* spells.

        Raises:
            ValueError: It is no loopback address with a port. The text says why.
        """
        parts = _ADDRESS.fullmatch(text)
        if parts is None:
            # No names either: what localhost is, the host's resolver says.
            raise ValueError("is not ADDRESS:PORT, with an address in digits")
        try:
            host = ipaddress.ip_address(parts["v6"] or parts["v4"])
        except ValueError:
            raise ValueError("names no possible address") from None
        if not host.is_loopback:
            raise ValueError(
                "is no loopback address; the listener has neither TLS nor a login, so "
                "it must not be reached from other hosts"
            )
        port = int(parts["port"])
        if not 1 <= port <= _MAX_PORT:
            raise ValueError(f"has no port from 1 to {_MAX_PORT}")
        return cls(str(host), port)


@frozen(kw_only=True)
class PluginConfig:
    """The settings of one daemon. Names are those of the file."""

    sdkms_endpoint: str = setting(
        "Base URL of DSM, with https.", example='"https://eu.smartkey.io"'
    )
    sdkms_endpoints: tuple[str, ...] = setting(
        "Further base URLs of the same DSM: the same cluster and the same account, "
        "reached another way. They are asked, in this order, while sdkms_endpoint does "
        "not answer; no credential goes to any other host. The key_id does not depend "
        "on which of them answers.",
        default=(),
        example='["https://dsm-2.example.com"]',
    )
    api_key: Secret | None = setting(
        "API key of the DSM app, as DSM shows it. A secret: it has no environment "
        "variable, and the file should be readable by its owner alone. One of api_key, "
        "api_key_file, jwt_file and a client certificate must be given; a certificate "
        "may come with one of the others, for an app that wants both.",
        default=None,
    )
    api_key_file: str | None = setting(
        "File that holds the API key and nothing else, in place of api_key. Like every "
        "file of a credential it is read again when it changes, or when a symlink on "
        "its path does; what is no whole and valid credential is not taken.",
        default=None,
        example='"/etc/fortanix/api-key"',
    )
    client_cert_file: str | None = setting(
        "PEM file of the TLS client certificate of the DSM app, with the rest of its "
        "chain after it. The log and check warn 30 days before it ends.",
        default=None,
        example='"/etc/fortanix/tls.crt"',
    )
    client_key_file: str | None = setting(
        "PEM file of the certificate's private key, not encrypted.",
        default=None,
        example='"/etc/fortanix/tls.key"',
    )
    app_id: str | None = setting(
        "UUID of the DSM app, for a client certificate that comes alone. Without it "
        "DSM has to know the app by the certificate.",
        default=None,
        example='"5f0f2a3e-7f5e-4e43-9d0a-0b4c5a3a9d51"',
    )
    jwt_file: str | None = setting(
        "File that holds a signed JWT for an app that logs in with one, in place of "
        "an API key.",
        default=None,
        example='"/var/run/secrets/dsm/token"',
    )
    key_name: str | None = setting(
        "Name of the AES key in DSM. Exactly one of key_name and key_id must be given; "
        "a name follows a rotation.",
        default=None,
        example='"kubernetes"',
    )
    key_id: str | None = setting(
        "UUID of the AES key in DSM, in place of key_name. A UUID names one key for "
        "ever, so that a rotation in DSM changes nothing here.",
        default=None,
        example='"4b3d13a8-2c3a-47dc-8779-311dad6843a2"',
    )
    socket_file: str = setting(
        "Path of the unix socket, as kube-apiserver's endpoint names it; at most 107 "
        "bytes. A leading unix:// is taken off.",
        example='"/var/run/kms-plugin/socket.sock"',
    )
    write_format: WriteFormat = setting(
        "What is written: native seeds, whose key_id follows a rotation, or the Go "
        "plugin's, whose key_id never changes. Every format is always read. New "
        "clusters want native.",
        default=WriteFormat.GO_PLUGIN,
        example='"native"',
    )
    api_version: ApiVersion | None = setting(
        "What Status answers as version. Absent: v2 with native, v2beta1 with "
        "go-plugin. kube-apiserver remembers the first that it sees: change this only "
        "while it is stopped.",
        default=None,
        example='"v2"',
    )
    protection: Protection = setting(
        "How the native format protects a seed. local-kek: the daemon seals it under "
        "a key of its own, which DSM wrapped; DSM is asked once for many seeds, and "
        "what is in memory opens during an outage. direct: DSM encrypts each seed, and "
        "its audit log shows each one. The Go plugin's format is always direct.",
        default=Protection.LOCAL_KEK,
        example='"direct"',
    )
    state_dir: str | None = setting(
        "Folder of the daemon's own that survives restarts and reboots; nothing in it "
        "is secret. With it a restarted daemon uses its local KEK again, and goes on "
        "coasting if it starts in an outage.",
        default=None,
        example='"/var/lib/k8s-sdkms-plugin"',
    )
    accept_key_ids: tuple[str, ...] = setting(
        "key_ids (hashes) of former configs of the Go plugin under which stored seeds "
        "still open; that of this file is always accepted.",
        default=(),
        example='["b9626df6ee008b246363fa1a9c32af1926b8fbbae8772af30383367aac70a57a"]',
    )
    kid_map: KidMap = setting(
        "Keys that were moved to another DSM, or restored, under a new UUID: the old "
        "one, which stored seeds name, and the new one, with the same key material.",
        default=KidMap(),
        example='{"9c1f7e02-5d3b-4a86-b0c4-7f2ad91e6b35": '
        '"4b3d13a8-2c3a-47dc-8779-311dad6843a2"}',
    )
    ca_file: str | None = setting(
        "PEM file of the certificate authorities that may vouch for DSM, in place of "
        "the system's. Absent: SSL_CERT_FILE and SSL_CERT_DIR, else the system's.",
        default=None,
        example='"/etc/fortanix/ca.pem"',
    )
    allow_http_on_loopback: bool = setting(
        "Accept an http endpoint if its host is loopback. For experiments with an "
        "emulator only: API key and seeds travel in the clear.",
        default=False,
        example="true",
    )
    socket_mode: Mode = setting(
        "Mode of the socket, octal in a string.", default=Mode(0o600), example='"0660"'
    )
    socket_group: str | None = setting(
        "Group of the socket, by name or number, for API servers that are not root.",
        default=None,
        example='"kube-apiserver"',
    )
    on_outage: OnTrouble = setting(
        "What Status does while DSM is unreachable or throttling: coast (stay ok, for "
        "coast_for) or fail.",
        default=OnTrouble.COAST,
        example='"fail"',
    )
    on_refused: OnTrouble = setting(
        "The same while DSM refuses: credential, permission, approval, or a key that "
        "is deactivated or gone.",
        default=OnTrouble.COAST,
        example='"fail"',
    )
    on_denied: OnDenied = setting(
        "What becomes of local KEKs in memory when DSM says twice that their key is "
        "disabled, compromised or destroyed: drop, or keep (what is in memory goes on "
        "opening seeds).",
        default=OnDenied.DROP,
        example='"keep"',
    )
    coast_for: Seconds = setting(
        "How long Status stays ok after DSM was last seen well.",
        default=Seconds(24 * 3600),
        example='"12h"',
    )
    probe_interval: Seconds = setting(
        "How old the last proof of the key may become (an Encrypt, or a probe: one "
        "encrypt and one decrypt, which DSM bills).",
        default=Seconds(3600),
        example='"6h"',
    )
    log_format: LogFormat = setting(
        "One JSON object a line, or text.", default=LogFormat.JSON, example='"text"'
    )
    log_level: LogLevel = setting(
        "Least level that is logged; debug adds each request to DSM.",
        default=LogLevel.INFO,
        example='"debug"',
    )
    listen: str | None = setting(
        "Loopback address and port of an HTTP listener with /metrics, /livez and "
        "/readyz. Every process of the host can read it; nothing in it is secret. "
        "Absent: no listener.",
        default=None,
        example='"127.0.0.1:9472"',
    )

    @property
    def listen_address(self) -> ListenAddress | None:
        """Return where the HTTP listener is, if there is to be one."""
        return None if self.listen is None else ListenAddress.parse(self.listen)

    @property
    def effective_protection(self) -> Protection:
        """Return what protects new seeds: the Go plugin's format knows direct alone."""
        if self.write_format is WriteFormat.GO_PLUGIN:
            return Protection.DIRECT
        return self.protection

    @property
    def effective_api_version(self) -> ApiVersion:
        """Return what Status answers, the default resolved."""
        if self.api_version is not None:
            return self.api_version
        if self.write_format is WriteFormat.NATIVE:
            return ApiVersion.V2
        return ApiVersion.V2BETA1


def environment_variable(name: str) -> str:
    """Return the name of the environment variable of the setting *name*."""
    return ENVIRONMENT_PREFIX + name.upper()


def is_secret(attribute: attrs.Attribute[Any]) -> bool:
    """Return whether a setting is a secret, which has no environment variable."""
    return attribute.type in (Secret | None, "Secret | None")

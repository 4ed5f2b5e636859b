"""Builds the parts of a daemon from its configuration. Nothing else wires."""

from __future__ import annotations

import grp
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector
from adapters_grpc.server import KmsServer
from adapters_grpc.unix_socket import SocketRefused, socket_path
from k8s_sdkms_plugin.config.model import PluginConfig, Protection, WriteFormat
from k8s_sdkms_plugin.state_dir import StateDir
from k8s_sdkms_plugin.version import NAME, version
from kms_core.any_version import AnyVersionEnvelope
from kms_core.envelope import Envelope, ProviderEnvelope
from kms_core.key_id import DEFAULT_SCHEME, KeyNaming, LegacyNaming, NativeNaming
from kms_core.local_kek import LocalKekEnvelope
from kms_core.sealed_seed import Version
from kms_core.service import KmsService
from kms_core.standing import Policy
from kms_core.store import NoStore, StateStore
from kms_core.system import LoopClock, SystemRandomness
from kms_core.watcher import Surroundings, Watcher


if TYPE_CHECKING:
    from collections.abc import Mapping

    from k8s_sdkms_plugin.config.loading import LoadedConfig
    from kms_core.ports import Telemetry


_VERSIONS: Final = {
    WriteFormat.NATIVE: Version.DIRECT,
    WriteFormat.GO_PLUGIN: Version.GO_PLUGIN,
}
_GID_DIGITS: Final = 10
"""So many digits can be more than the kernel takes for a group."""


@frozen
class Parts:
    """A daemon's parts, wired but not started."""

    provider: DsmKeyProvider
    envelope: Envelope
    naming: KeyNaming
    watcher: Watcher
    server: KmsServer


def assemble(
    loaded: LoadedConfig,
    config: PluginConfig,
    telemetry: Telemetry,
    environ: Mapping[str, str],
) -> Parts:
    """Return the parts for *config*.

    Args:
        loaded: Where *config* comes from; it knows the Go plugin's key_id.
        config: The settings.
        telemetry: Where events go.
        environ: The process' environment variables.

    Raises:
        SocketRefused: ``socket_group`` is no group of this host.
    """
    clock = LoopClock()
    randomness = SystemRandomness()
    provider = DsmKeyProvider(
        dsm_settings(config),
        clock=clock,
        randomness=randomness,
        telemetry=telemetry,
        environ=environ,
    )
    store = store_for(config, telemetry)
    envelope = AnyVersionEnvelope(
        by_provider=ProviderEnvelope(
            provider,
            _VERSIONS[config.write_format],
            DEFAULT_SCHEME,
            frozenset({loaded.go_plugin_key_id, *config.accept_key_ids}),
        ),
        by_local_kek=LocalKekEnvelope(
            provider, DEFAULT_SCHEME, clock=clock, randomness=randomness, store=store
        ),
        writes_local_keks=config.effective_protection is Protection.LOCAL_KEK,
    )
    naming = naming_for(loaded, config)
    watcher = Watcher(
        Surroundings(
            provider=provider,
            envelope=envelope,
            naming=naming,
            clock=clock,
            randomness=randomness,
            telemetry=telemetry,
            policy=Policy(
                on_outage=config.on_outage,
                on_refused=config.on_refused,
                on_denied=config.on_denied,
                coast_for_s=config.coast_for,
                probe_interval_s=config.probe_interval,
            ),
            store=store,
        )
    )
    server = KmsServer(
        KmsService(watcher, envelope, config.effective_api_version),
        telemetry,
        socket_path(config.socket_file),
        mode=config.socket_mode,
        gid=group_id(config.socket_group),
    )
    return Parts(provider, envelope, naming, watcher, server)


def dsm_settings(config: PluginConfig) -> DsmSettings:
    """Return what the DSM adapter has to be told."""
    return DsmSettings(
        endpoint=Endpoint.parse(
            config.sdkms_endpoint, allow_http=config.allow_http_on_loopback
        ),
        selector=KeySelector(name=config.key_name, kid=config.key_id),
        api_key=config.api_key,
        ca_file=None if config.ca_file is None else Path(config.ca_file),
        user_agent=f"{NAME}/{version()}",
    )


def store_for(config: PluginConfig, telemetry: Telemetry) -> StateStore:
    """Return the store in ``state_dir``, or one that keeps nothing."""
    if config.state_dir is None:
        return NoStore()
    identity = [
        config.sdkms_endpoint,
        config.key_name,
        config.key_id,
        config.write_format.value,
    ]
    return StateDir(Path(config.state_dir), json.dumps(identity), telemetry)


def naming_for(loaded: LoadedConfig, config: PluginConfig) -> KeyNaming:
    """Return how the key gets its key_id."""
    if config.write_format is WriteFormat.NATIVE:
        return NativeNaming()
    return LegacyNaming(loaded.go_plugin_key_id)


def group_id(group: str | None) -> int | None:
    """Return the number of a group that is given by name or number.

    Raises:
        SocketRefused: This host has no such group.
    """
    if group is None:
        return None
    if group.isascii() and group.isdigit() and len(group) < _GID_DIGITS:
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise SocketRefused(
            f"socket_group: this host has no group {group!r}; create it or use its "
            "number"
        ) from error

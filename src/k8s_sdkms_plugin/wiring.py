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
from kms_core.moved_keys import MovedKeys
from kms_core.sealed_seed import Version
from kms_core.service import KmsService
from kms_core.standing import Policy
from kms_core.store import NoStore, StateStore
from kms_core.system import LoopClock, SystemRandomness
from kms_core.watcher import Surroundings, Watcher


if TYPE_CHECKING:
    from collections.abc import Mapping

    from k8s_sdkms_plugin.config.loading import LoadedConfig
    from k8s_sdkms_plugin.config.model import ListenAddress
    from k8s_sdkms_plugin.listener import Listener
    from k8s_sdkms_plugin.logs import LogWriter
    from kms_core.ports import Clock, Telemetry


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
    service: KmsService
    local_keks: LocalKekEnvelope
    policy: Policy
    clock: Clock


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
    store = store_for(loaded, config, telemetry)
    moves = dict(config.kid_map.pairs)
    keys = MovedKeys(provider, moves) if moves else provider
    local_keks = LocalKekEnvelope(
        keys, DEFAULT_SCHEME, clock=clock, randomness=randomness, store=store
    )
    envelope = AnyVersionEnvelope(
        by_provider=ProviderEnvelope(
            keys,
            _VERSIONS[config.write_format],
            DEFAULT_SCHEME,
            frozenset({loaded.go_plugin_key_id, *config.accept_key_ids}),
        ),
        by_local_kek=local_keks,
        writes_local_keks=config.effective_protection is Protection.LOCAL_KEK,
        moves=moves,
    )
    naming = naming_for(loaded, config)
    policy = Policy(
        on_outage=config.on_outage,
        on_refused=config.on_refused,
        on_denied=config.on_denied,
        coast_for_s=config.coast_for,
        probe_interval_s=config.probe_interval,
    )
    watcher = Watcher(
        Surroundings(
            provider=provider,
            envelope=envelope,
            naming=naming,
            clock=clock,
            randomness=randomness,
            telemetry=telemetry,
            policy=policy,
            store=store,
        )
    )
    service = KmsService(watcher, envelope, config.effective_api_version)
    server = KmsServer(
        service,
        telemetry,
        socket_path(config.socket_file),
        mode=config.socket_mode,
        gid=group_id(config.socket_group),
    )
    return Parts(
        provider=provider,
        envelope=envelope,
        naming=naming,
        watcher=watcher,
        server=server,
        service=service,
        local_keks=local_keks,
        policy=policy,
        clock=clock,
    )


def listener_for(
    address: ListenAddress, parts: Parts, telemetry: Telemetry, writer: LogWriter
) -> Listener:
    """Return a listener for a daemon of *parts*; its counts want every event.

    Args:
        address: Where it is to listen.
        parts: What it tells about.
        telemetry: Where its own events go.
        writer: Where its log lines go.
    """
    # A daemon without a listener does without aiohttp.web and prometheus-client.
    from k8s_sdkms_plugin.event_counts import EventCounts  # noqa: PLC0415 - see above
    from k8s_sdkms_plugin.listener import Listener  # noqa: PLC0415 - see above
    from k8s_sdkms_plugin.metrics import Metrics, Sources  # noqa: PLC0415 - see above

    counts = EventCounts()
    sources = Sources(
        standing=lambda: parts.watcher.standing,
        policy=parts.policy,
        clock=parts.clock,
        local_keks=lambda: parts.local_keks.kept,
        log_lines_dropped=lambda: writer.dropped,
    )
    return Listener(
        address,
        service=parts.service,
        counts=counts,
        metrics=Metrics(counts, sources),
        clock=parts.clock,
        writer=writer,
        telemetry=telemetry,
    )


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


def store_for(
    loaded: LoadedConfig, config: PluginConfig, telemetry: Telemetry
) -> StateStore:
    """Return the store in ``state_dir``, or one that keeps nothing."""
    if config.state_dir is None:
        return NoStore()
    go_plugin = config.write_format is WriteFormat.GO_PLUGIN
    identity = [
        config.sdkms_endpoint,
        config.key_name,
        config.key_id,
        config.write_format.value,
        # It comes from the file as it stands there, whatever overrides that.
        loaded.go_plugin_key_id if go_plugin else None,
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

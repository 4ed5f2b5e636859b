"""``check``: what would happen if the daemon started now, and what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
from attrs import frozen

from adapters_grpc.unix_socket import SocketRefused, check_path, socket_path
from k8s_sdkms_plugin.config.findings import Severity
from k8s_sdkms_plugin.legacy import LegacyConfig, NotLegacy, read_legacy
from k8s_sdkms_plugin.wiring import Parts, assemble, group_id
from kms_core.errors import KeyNotFound, KmsError, RotationHidden
from kms_core.key_id import AnnouncedKey, is_legacy
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from k8s_sdkms_plugin.config.loading import LoadedConfig
    from k8s_sdkms_plugin.config.model import PluginConfig
    from kms_core.provider import KeyDescription


EXIT_WELL: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2

_TIMEOUT_S: Final = 5.0
_SEED_BYTES: Final = 32
_READ_WRITE: Final = os.R_OK | os.W_OK | os.X_OK


@frozen
class Item:
    """One thing that was looked at.

    Attributes:
        level: ``ok``, ``warning`` or ``error``.
        about: What was looked at.
        found: What was found.
        remedy: What to do; empty if nothing.
    """

    level: str
    about: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8}{self.about}: {self.found}"
        return f"{line}; {self.remedy}" if self.remedy else line


def check(
    loaded: LoadedConfig, *, as_json: bool, legacy_file: Path | None = None
) -> int:
    """Print what was found, and return the exit code.

    Args:
        loaded: The config file, read.
        as_json: Print one JSON object instead of lines.
        legacy_file: A former config of the Go plugin: would what was stored under it
            open?

    Returns:
        0 if the daemon would serve, 1 if DSM, key or socket keep it from doing so,
        2 if the configuration does.
    """
    items = [
        Item(finding.severity.value, finding.field, finding.what, finding.remedy)
        for finding in loaded.findings
    ]
    code = EXIT_CONFIG
    if loaded.config is not None:
        found = asyncio.run(_look_around(loaded, loaded.config))
        if legacy_file is not None:
            found += asyncio.run(_look_back(loaded, loaded.config, legacy_file))
        failed = any(item.level == Severity.ERROR.value for item in found)
        code = EXIT_FAILED if failed else EXIT_WELL
        items += found
    if as_json:
        print(
            json.dumps(
                {"exit": code, "items": [attrs.asdict(i) for i in items]}, indent=2
            )
        )
    else:
        for item in items:
            print(item)
    return code


async def _look_around(loaded: LoadedConfig, config: PluginConfig) -> list[Item]:
    items = [
        Item("error", "socket_file", problem, "correct it, or the folder")
        for problem in check_path(socket_path(config.socket_file))
    ]
    if not items:
        items.append(Item("ok", "socket_file", f"{config.socket_file} can be served"))
    try:
        group_id(config.socket_group)
    except SocketRefused as refusal:
        remedy = "name another group in socket_group"
        items.append(Item("error", "socket_group", refusal.text, remedy))
        config = attrs.evolve(config, socket_group=None)
    items += _state_dir(config)
    async with _parts(loaded, config) as parts:
        items += await _ask_dsm(parts)
    return items


@contextlib.asynccontextmanager
async def _parts(loaded: LoadedConfig, config: PluginConfig) -> AsyncIterator[Parts]:
    # Without the state of the daemon, which may be running and must not lose it.
    config = attrs.evolve(config, state_dir=None)
    parts = assemble(loaded, config, _Silence(), os.environ)
    try:
        yield parts
    finally:
        await parts.envelope.aclose()
        await parts.provider.aclose()


async def _look_back(
    loaded: LoadedConfig, config: PluginConfig, legacy_file: Path
) -> list[Item]:
    """Return whether what was stored under a former config opens under this one."""
    about = "legacy config"
    try:
        legacy = read_legacy(legacy_file)
    except NotLegacy as problem:
        return [Item("error", about, str(problem), "name a file of the Go plugin")]
    items = [
        Item("warning", f"{about}, {f.field}", f"{f.what}, in a file of ours", f.remedy)
        for f in legacy.refused
    ]
    key_id = legacy.go_plugin_key_id
    if key_id == loaded.go_plugin_key_id:
        found = f"gives key_id {key_id}, as this one does"
        items.append(Item("ok", about, found))
    elif key_id in config.accept_key_ids:
        found = f"gives key_id {key_id}, which accept_key_ids has"
        items.append(Item("ok", about, found))
    else:
        found = f"gives key_id {key_id}, under which nothing opens now"
        items.append(Item("error", about, found, "add it to accept_key_ids"))
    return [*items, *await _look_for_former_key(loaded, config, legacy)]


async def _look_for_former_key(
    loaded: LoadedConfig, config: PluginConfig, legacy: LegacyConfig
) -> list[Item]:
    """Return whether DSM still has the key that a former config names."""
    about = "legacy key"
    moves = dict(config.kid_map.pairs)
    kid = legacy.key_id.lower()
    former = attrs.evolve(
        config, key_name=legacy.key_name or None, key_id=moves.get(kid, kid) or None
    )
    items = []
    if legacy.host != urlsplit(config.sdkms_endpoint).hostname:
        found = "was in a DSM of another host; stored seeds name the key by its UUID"
        remedy = "if it has another UUID in this DSM, say so in kid_map"
        items.append(Item("warning", about, found, remedy))
    async with _parts(loaded, former) as parts:
        try:
            description = await parts.provider.describe(deadline=_deadline())
        except KeyNotFound:
            if legacy.key_name:
                found = "no key has that name now; stored seeds name it by its UUID"
                remedy = "see with verify --open that they open"
                return [*items, Item("warning", about, found, remedy)]
            found = f"DSM has no key {former.key_id}, so its seeds do not open"
            remedy = "bring the key into this DSM, and put its new UUID into kid_map"
            return [*items, Item("error", about, found, remedy)]
        except KmsError as error:
            found = f"{error.code}: {error.cause}"
            return [*items, Item("error", about, found, error.hint)]
    usable = description.can_decrypt and description.enabled
    found = f"is {description.kid}, {description.state.value.lower()}"
    if usable:
        return [*items, Item("ok", about, found)]
    remedy = "enable it in DSM, and let the app DECRYPT with it"
    return [*items, Item("error", about, f"{found}, and can't decrypt", remedy)]


async def _ask_dsm(parts: Parts) -> list[Item]:
    """Describe the key, judge it, seal and open a seed; stop at the first error."""
    items: list[Item] = []
    about = "dsm"
    try:
        description = await parts.provider.describe(deadline=_deadline())
        items.append(Item("ok", about, "answers, and takes the API key"))
        about = "key"
        state = description.state.value.lower()
        size = "" if description.size_bits is None else f"-{description.size_bits}"
        found = f"{description.kid} is {description.algorithm}{size}, {state}"
        description.judge()
        key_id = parts.naming.key_id(description)
        items.append(Item("ok", about, found))
        items.append(Item("ok", "key_id", f"Status would answer {key_id}"))
        items += _hidden_rotation(description, key_id)
        about = "seed"
        seed = secrets.token_bytes(_SEED_BYTES)
        key = AnnouncedKey(description.kid, key_id)
        sealed = await parts.envelope.seal(seed, key, deadline=_deadline())
        found = f"sealed to {len(sealed)} bytes and opened again"
        items.append(Item("ok", about, found))
    except KmsError as error:
        items.append(Item("error", about, f"{error.code}: {error.cause}", error.hint))
    return items


def _hidden_rotation(description: KeyDescription, key_id: str) -> list[Item]:
    """Return an error if kube-apiserver can't know that the key was rotated."""
    if description.replaced is None or not is_legacy(key_id):
        return []
    hidden = RotationHidden(
        f"the key took over from {description.replaced}, and the Go plugin's key_id "
        "can't tell kube-apiserver"
    )
    return [Item("error", "rotation", f"{hidden.code}: {hidden.cause}", hidden.hint)]


def _state_dir(config: PluginConfig) -> list[Item]:
    if config.state_dir is None:
        return []
    if Path(config.state_dir).is_dir() and os.access(config.state_dir, _READ_WRITE):
        return [Item("ok", "state_dir", f"{config.state_dir} can be used")]
    return [
        Item(
            "error",
            "state_dir",
            f"{config.state_dir} is no folder that the daemon can write",
            "make it, mode 0700, with the daemon's user as its owner",
        )
    ]


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _TIMEOUT_S


class _Silence(Telemetry):
    """``check`` prints findings, not events."""

    def emit(self, event: Event) -> None:
        """Drop *event*."""

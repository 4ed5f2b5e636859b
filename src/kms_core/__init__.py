"""The domain of a Kubernetes KMS v2 plugin, without I/O.

Write a ``KeyProvider`` for a key service; an envelope (``LocalKekEnvelope``, or
``ProviderEnvelope``, or ``AnyVersionEnvelope`` over both), ``Watcher`` and
``KmsService`` make a plugin of it. In-memory fakes are in ``kms_core.fakes``.
"""

from __future__ import annotations

from kms_core import errors
from kms_core.any_version import AnyVersionEnvelope
from kms_core.envelope import Envelope, ProviderEnvelope
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import (
    AnnouncedKey,
    KeyNaming,
    LegacyNaming,
    NativeKeyId,
    NativeNaming,
    go_plugin_key_id,
)
from kms_core.local_kek import LocalKekEnvelope
from kms_core.moved_keys import MovedKeys
from kms_core.ports import Clock, Event, Randomness, Telemetry
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider, KeyState
from kms_core.sealed_seed import EnvelopedSeed, SealedSeed, Version
from kms_core.service import ApiVersion, EncryptAnswer, KmsService, StatusAnswer
from kms_core.standing import OnDenied, OnTrouble, Phase, Policy, Standing
from kms_core.store import NoStore, StateStore, StoredKek, StoredProof
from kms_core.system import LoopClock, SystemRandomness
from kms_core.watcher import Surroundings, Timing, Watcher


__all__ = [
    "AnnouncedKey",
    "AnyVersionEnvelope",
    "ApiVersion",
    "Ciphertext",
    "Clock",
    "EncryptAnswer",
    "Envelope",
    "EnvelopedSeed",
    "Event",
    "KeyDescription",
    "KeyNaming",
    "KeyProvider",
    "KeyState",
    "KmsService",
    "LegacyNaming",
    "LocalKekEnvelope",
    "LoopClock",
    "MovedKeys",
    "NativeKeyId",
    "NativeNaming",
    "NoStore",
    "OnDenied",
    "OnTrouble",
    "Phase",
    "Policy",
    "ProviderEnvelope",
    "Randomness",
    "SealedSeed",
    "Standing",
    "StateStore",
    "StatusAnswer",
    "StoredKek",
    "StoredProof",
    "Surroundings",
    "SystemRandomness",
    "Telemetry",
    "Timing",
    "Version",
    "Watcher",
    "WrappedKek",
    "errors",
    "go_plugin_key_id",
]

"""The domain of a Kubernetes KMS v2 plugin, without I/O.

Write a ``KeyProvider`` for a key service; ``ProviderEnvelope``, ``Watcher`` and
``KmsService`` make a plugin of it. In-memory fakes are in ``kms_core.fakes``.
"""

from __future__ import annotations

from kms_core import errors
from kms_core.envelope import Envelope, ProviderEnvelope
from kms_core.key_id import (
    AnnouncedKey,
    KeyNaming,
    LegacyNaming,
    NativeKeyId,
    NativeNaming,
    go_plugin_key_id,
)
from kms_core.ports import Clock, Event, Randomness, Telemetry
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider, KeyState
from kms_core.sealed_seed import SealedSeed, Version
from kms_core.service import ApiVersion, EncryptAnswer, KmsService, StatusAnswer
from kms_core.standing import OnTrouble, Phase, Policy, Standing
from kms_core.system import LoopClock, SystemRandomness
from kms_core.watcher import Surroundings, Timing, Watcher


__all__ = [
    "AnnouncedKey",
    "ApiVersion",
    "Ciphertext",
    "Clock",
    "EncryptAnswer",
    "Envelope",
    "Event",
    "KeyDescription",
    "KeyNaming",
    "KeyProvider",
    "KeyState",
    "KmsService",
    "LegacyNaming",
    "LoopClock",
    "NativeKeyId",
    "NativeNaming",
    "OnTrouble",
    "Phase",
    "Policy",
    "ProviderEnvelope",
    "Randomness",
    "SealedSeed",
    "Standing",
    "StatusAnswer",
    "Surroundings",
    "SystemRandomness",
    "Telemetry",
    "Timing",
    "Version",
    "Watcher",
    "errors",
    "go_plugin_key_id",
]

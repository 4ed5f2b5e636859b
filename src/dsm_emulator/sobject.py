"""A security object: a key with its state, and its form on the wire (section 2.2)."""

import uuid
from enum import StrEnum
from typing import Any

from attrs import Factory, define, field

from dsm_emulator.aes_options import AesOptions
from dsm_emulator.clock import basic_iso
from dsm_emulator.rotation import RotationPolicy


class KeyState(StrEnum):
    """The life of a key; whether it is enabled is another question."""

    PREACTIVE = "PreActive"
    ACTIVE = "Active"
    DEACTIVATED = "Deactivated"
    COMPROMISED = "Compromised"
    DESTROYED = "Destroyed"
    DELETED = "Deleted"


class KeyOp(StrEnum):
    """What a key may be used for, as far as it concerns an AES key."""

    ENCRYPT = "ENCRYPT"
    DECRYPT = "DECRYPT"
    WRAPKEY = "WRAPKEY"
    UNWRAPKEY = "UNWRAPKEY"
    DERIVEKEY = "DERIVEKEY"
    MACGENERATE = "MACGENERATE"
    MACVERIFY = "MACVERIFY"
    EXPORT = "EXPORT"
    APPMANAGEABLE = "APPMANAGEABLE"
    HIGHVOLUME = "HIGHVOLUME"


DEFAULT_KEY_OPS = (
    KeyOp.ENCRYPT,
    KeyOp.DECRYPT,
    KeyOp.WRAPKEY,
    KeyOp.UNWRAPKEY,
    KeyOp.DERIVEKEY,
    KeyOp.MACGENERATE,
    KeyOp.MACVERIFY,
    KeyOp.APPMANAGEABLE,
)

_DATES = (
    "created_at",
    "activation_date",
    "deactivation_date",
    "compromise_date",
    "destruction_date",
    "deletion_date",
    "scheduled_rotation",
)


@define
class Sobject:
    """An AES key.

    All dates are seconds since the epoch; they become DSM's date form in `as_json`.

    Attributes:
        name: Unique in the account.
        material: The key itself; gone once the key is destroyed or deleted.
        key_size: In bits; survives the material.
        replaced: The kid of the older key, `links.replaced` on the wire.
        replacement: The kid of the newer key, `links.replacement` on the wire.
        rotation_policy: How often it is rotated, if at all.
        scheduled_rotation: When it is rotated next.
        aes: What its use is limited to.
    """

    name: str
    acct_id: str
    group_id: str
    creator_app_id: str
    created_at: float
    key_size: int
    material: bytes | None = field(repr=lambda _: "'***'")
    key_ops: tuple[KeyOp, ...] = DEFAULT_KEY_OPS
    kid: str = Factory(lambda: str(uuid.uuid4()))
    state: KeyState = KeyState.ACTIVE
    enabled: bool = True
    origin: str = "FortanixHSM"
    description: str | None = None
    custom_metadata: dict[str, str] = Factory(dict)
    activation_date: float | None = None
    deactivation_date: float | None = None
    compromise_date: float | None = None
    destruction_date: float | None = None
    deletion_date: float | None = None
    revocation_reason: dict[str, str] | None = None
    replaced: str | None = None
    replacement: str | None = None
    rotation_policy: RotationPolicy | None = None
    scheduled_rotation: float | None = None
    aes: AesOptions | None = None

    def settle(self, now_s: float) -> None:
        """Let the dates do to the state what they are for."""
        if (
            self.state is KeyState.PREACTIVE
            and self.activation_date is not None
            and self.activation_date <= now_s
        ):
            self.state = KeyState.ACTIVE
        if (
            self.state is KeyState.ACTIVE
            and self.deactivation_date is not None
            and self.deactivation_date <= now_s
        ):
            self.state = KeyState.DEACTIVATED

    def as_json(self) -> dict[str, Any]:
        """Return the object as DSM shows it; what is absent is left out."""
        shown: dict[str, Any] = {
            "acct_id": self.acct_id,
            "creator": {"app": self.creator_app_id},
            "custom_metadata": self.custom_metadata,
            "enabled": self.enabled,
            "group_id": self.group_id,
            "key_ops": list(self.key_ops),
            "key_size": self.key_size,
            "kid": self.kid,
            "name": self.name,
            "obj_type": "AES",
            "origin": self.origin,
            "public_only": False,
            "state": self.state.value,
        }
        for date in _DATES:
            instant_s = getattr(self, date)
            if instant_s is not None:
                shown[date] = basic_iso(instant_s)
        if self.rotation_policy is not None:
            shown["rotation_policy"] = self.rotation_policy.as_json()
        if self.aes is not None:
            shown["aes"] = self.aes.as_json()
        if self.description is not None:
            shown["description"] = self.description
        if self.revocation_reason is not None:
            shown["revocation_reason"] = self.revocation_reason
        links = {
            link: kid
            for link, kid in (
                ("replaced", self.replaced),
                ("replacement", self.replacement),
            )
            if kid is not None
        }
        if links:
            shown["links"] = links
        return shown

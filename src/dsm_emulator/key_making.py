"""How a key comes to be: generated, imported, or as the successor of another."""

import os
import uuid

import attrs

from dsm_emulator.errors import bad_request
from dsm_emulator.sobject import DEFAULT_KEY_OPS, KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest


def new_key(
    request: SobjectRequest,
    *,
    acct_id: str,
    creator_app_id: str,
    group_id: str,
    now_s: float,
) -> Sobject:
    """Make a key: generate its material, or import `request.value`.

    Raises:
        DsmError: 400 without a name or a size.
    """
    if request.name is None:
        raise bad_request("missing field `name`")
    if request.value is not None:
        material, origin = request.value, "External"
        if request.key_size not in {None, len(material) * 8}:
            raise bad_request("key_size does not match the value")
    elif request.key_size is None:
        raise bad_request("missing field `key_size`")
    else:
        material, origin = os.urandom(request.key_size // 8), "FortanixHSM"
    key = Sobject(
        name=request.name,
        acct_id=acct_id,
        group_id=group_id,
        creator_app_id=creator_app_id,
        created_at=now_s,
        key_size=len(material) * 8,
        material=material,
        key_ops=DEFAULT_KEY_OPS if request.key_ops is None else request.key_ops,
        state=KeyState.PREACTIVE,
        enabled=request.enabled is not False,
        origin=origin,
        description=request.description,
        custom_metadata=dict(request.custom_metadata or {}),
        activation_date=(
            now_s if request.activation_date is None else request.activation_date
        ),
        deactivation_date=request.deactivation_date,
        aes=request.aes,
    )
    if request.rotation_policy is not None:
        key.rotation_policy = request.rotation_policy
        key.scheduled_rotation = request.rotation_policy.first_after(now_s)
    return key


def successor(
    key: Sobject, request: SobjectRequest, *, creator_app_id: str, now_s: float
) -> Sobject:
    """Make the key that takes the place of *key* in a rekey.

    Args:
        key: The one before it.
        request: What the new key has in another way than the old one.
        creator_app_id: Who rotates.
        now_s: When.
    """
    size = request.key_size or key.key_size
    new = attrs.evolve(
        key,
        kid=str(uuid.uuid4()),
        material=os.urandom(size // 8) if request.value is None else request.value,
        key_size=size if request.value is None else len(request.value) * 8,
        creator_app_id=creator_app_id,
        created_at=now_s,
        key_ops=key.key_ops if request.key_ops is None else request.key_ops,
        state=KeyState.PREACTIVE,
        enabled=key.enabled if request.enabled is None else request.enabled,
        origin="FortanixHSM" if request.value is None else "External",
        description=(
            key.description if request.description is None else request.description
        ),
        custom_metadata=dict(
            key.custom_metadata
            if request.custom_metadata is None
            else request.custom_metadata
        ),
        activation_date=(
            now_s if request.activation_date is None else request.activation_date
        ),
        deactivation_date=request.deactivation_date,
        compromise_date=None,
        destruction_date=None,
        deletion_date=None,
        revocation_reason=None,
        replaced=key.kid,
        replacement=None,
        aes=key.aes if request.aes is None else request.aes,
    )
    if request.rotation_policy is not None:
        new.rotation_policy = request.rotation_policy
    if new.rotation_policy is not None:
        # A policy that has begun goes on by its interval, from the new key's birth.
        new.scheduled_rotation = new.rotation_policy.first_after(now_s)
    return new

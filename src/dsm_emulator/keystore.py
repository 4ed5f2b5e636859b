"""All keys, by kid and by name, and what moves a key through its life (section 4).

Nothing here asks who is calling; `access` does.
"""

import os
import uuid
from collections.abc import Iterator

import attrs

from dsm_emulator.account import Account
from dsm_emulator.clock import Clock, basic_iso
from dsm_emulator.errors import bad_request, name_taken, no_such_key
from dsm_emulator.sobject import DEFAULT_KEY_OPS, KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest


COMPROMISE_CODES = frozenset({"KeyCompromise", "CACompromise"})
REVOCATION_CODES = COMPROMISE_CODES | {
    "Unspecified",
    "AffiliationChanged",
    "Superseded",
    "CessationOfOperation",
    "PrivilegeWithdrawn",
}


class KeyStore:
    """The keys of the account.

    A deleted key is kept for `show_deleted`, by kid alone: its name is free again.
    """

    def __init__(self, account: Account, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._by_kid: dict[str, Sobject] = {}
        self._by_name: dict[str, Sobject] = {}

    def __iter__(self) -> Iterator[Sobject]:
        return iter([self._settled(key) for key in self._by_kid.values()])

    def by_kid(self, kid: str) -> Sobject:
        """Return the key of *kid*, deleted ones included.

        Raises:
            DsmError: 400 when *kid* isn't a UUID, 404 when no key has it.
        """
        key = self._by_kid.get(kid)
        if key is None:
            try:
                canonical = str(uuid.UUID(kid))
            except ValueError:
                raise bad_request("invalid kid") from None
            key = self._by_kid.get(canonical)
        if key is None:
            raise no_such_key()
        return self._settled(key)

    def by_name(self, name: str) -> Sobject:
        """Return the key that bears *name* now.

        Raises:
            DsmError: 404, no key does.
        """
        key = self._by_name.get(name)
        if key is None:
            raise no_such_key()
        return self._settled(key)

    def create(
        self, request: SobjectRequest, *, creator_app_id: str, group_id: str
    ) -> Sobject:
        """Make a key: generate its material, or import `request.value`.

        Raises:
            DsmError: 400 without a name or a size, 409 when the name is taken.
        """
        if request.name is None:
            raise bad_request("missing field `name`")
        self._expect_free(request.name)
        if request.value is not None:
            material, origin = request.value, "External"
            if request.key_size not in {None, len(material) * 8}:
                raise bad_request("key_size does not match the value")
        elif request.key_size is None:
            raise bad_request("missing field `key_size`")
        else:
            material, origin = os.urandom(request.key_size // 8), "FortanixHSM"
        now_s = self._clock.now()
        key = Sobject(
            name=request.name,
            acct_id=self._account.acct_id,
            group_id=group_id,
            creator_app_id=creator_app_id,
            created_at=now_s,
            key_size=len(material) * 8,
            material=material,
            key_ops=(DEFAULT_KEY_OPS if request.key_ops is None else request.key_ops),
            state=KeyState.PREACTIVE,
            enabled=request.enabled is not False,
            origin=origin,
            description=request.description,
            custom_metadata=dict(request.custom_metadata or {}),
            activation_date=(
                now_s if request.activation_date is None else request.activation_date
            ),
            deactivation_date=request.deactivation_date,
        )
        return self._add(key)

    def change(self, key: Sobject, request: SobjectRequest) -> Sobject:
        """Apply a PATCH; every mentioned field is replaced as a whole.

        Raises:
            DsmError: 400 when key_ops would gain one, 409 when the name is taken.
        """
        if request.key_ops is not None and not set(request.key_ops) <= set(key.key_ops):
            raise bad_request("key_ops can be removed, not added")
        if request.name is not None and request.name != key.name:
            self.rename(key, request.name)
        for field in (
            "key_ops",
            "enabled",
            "description",
            "custom_metadata",
            "activation_date",
            "deactivation_date",
        ):
            value = getattr(request, field)
            if value is not None:
                setattr(key, field, value)
        return self._settled(key)

    def rename(self, key: Sobject, name: str) -> None:
        """Give *key* another name.

        Raises:
            DsmError: 409, the name is taken.
        """
        self._expect_free(name)
        del self._by_name[key.name]
        key.name = name
        self._by_name[name] = key

    def rekey(
        self,
        key: Sobject,
        request: SobjectRequest,
        *,
        creator_app_id: str,
        deactivate_rotated_key: bool = False,
    ) -> Sobject:
        """Rotate *key*: a new key takes its name, and the two link to each other.

        Args:
            key: The present bearer of the name.
            request: What the new key has in another way than the old one.
            creator_app_id: Who rotates.
            deactivate_rotated_key: Whether the old key goes to Deactivated.

        Returns:
            The new key.
        """
        now_s = self._clock.now()
        name = key.name
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
        )
        self.rename(key, self._rotated_name(name, now_s))
        key.replacement = new.kid
        if deactivate_rotated_key:
            self.deactivate(key)
        return self._add(new)

    def replace(self, old: Sobject, old_new_name: str, new: Sobject) -> None:
        """Move the name of *old* to *new*, an existing key, and link the two.

        Raises:
            DsmError: 409, *old_new_name* is taken.
        """
        name = old.name
        self.rename(old, old_new_name)
        self.rename(new, name)
        old.replacement = new.kid
        new.replaced = old.kid

    def activate(self, key: Sobject) -> None:
        """Make a PreActive key Active.

        Raises:
            DsmError: 400, the key is in another state.
        """
        if key.state is not KeyState.PREACTIVE:
            raise bad_request("sobject is not in PreActive state")
        key.state = KeyState.ACTIVE
        key.activation_date = self._clock.now()

    def deactivate(self, key: Sobject) -> None:
        """Make a key Deactivated, and disabled if the account says so."""
        key.state = KeyState.DEACTIVATED
        key.deactivation_date = self._clock.now()
        self._disable_if_the_account_says_so(key)

    def revoke(self, key: Sobject, code: str, message: str | None = None) -> None:
        """Deactivate a key, or mark it compromised, by the reason's code.

        Raises:
            DsmError: 400, the code isn't one of `REVOCATION_CODES`.
        """
        if code not in REVOCATION_CODES:
            raise bad_request("unknown revocation code")
        key.revocation_reason = {"code": code}
        if message is not None:
            key.revocation_reason["message"] = message
        if code in COMPROMISE_CODES:
            key.state = KeyState.COMPROMISED
            key.compromise_date = self._clock.now()
            return
        self.deactivate(key)

    def destroy(self, key: Sobject) -> None:
        """Drop the material; the metadata stay."""
        key.state = KeyState.DESTROYED
        key.destruction_date = self._clock.now()
        key.material = None

    def delete(self, key: Sobject) -> None:
        """Drop the material and free the name."""
        del self._by_name[key.name]
        key.state = KeyState.DELETED
        key.deletion_date = self._clock.now()
        key.material = None

    def _add(self, key: Sobject) -> Sobject:
        self._by_kid[key.kid] = key
        self._by_name[key.name] = key
        return self._settled(key)

    def _settled(self, key: Sobject) -> Sobject:
        before = key.state
        key.settle(self._clock.now())
        if key.state is not before and key.state is KeyState.DEACTIVATED:
            self._disable_if_the_account_says_so(key)
        return key

    def _disable_if_the_account_says_so(self, key: Sobject) -> None:
        if self._account.mark_key_disable_when_deactivated:
            key.enabled = False

    def _expect_free(self, name: str) -> None:
        if name in self._by_name:
            raise name_taken()

    def _rotated_name(self, name: str, now_s: float) -> str:
        # The timestamp's form isn't known (section 4.1). Two rotations in one second
        # must not collide, as they do under a frozen clock.
        stamp = basic_iso(now_s)
        rotated = f"{name} (rotated at {stamp})"
        again = 1
        while rotated in self._by_name:
            again += 1
            rotated = f"{name} (rotated at {stamp}, {again})"
        return rotated

"""All that changes keys: making, naming, rotating, ending them (section 4).

Nothing here asks who is calling; `access` does.
"""

import math
from datetime import UTC, datetime

from dsm_emulator import key_life
from dsm_emulator.clock import basic_iso
from dsm_emulator.errors import bad_request
from dsm_emulator.key_index import KeyIndex, RotatedNameForm
from dsm_emulator.key_making import new_key, successor
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject import KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest


class KeyStore(KeyIndex):
    """The keys of the account, and what changes them."""

    # Making, naming, replacing.

    def create(
        self, request: SobjectRequest, *, creator_app_id: str, group_id: str
    ) -> Sobject:
        """Make a key: generate its material, or import `request.value`.

        Raises:
            DsmError: 400 without a name or a size, 409 when the name is taken.
        """
        now_s = self._clock.now()
        key = new_key(
            request,
            acct_id=self._account.acct_id,
            creator_app_id=creator_app_id,
            group_id=group_id,
            now_s=now_s,
        )
        self._expect_free(key.name)
        self.lag.mapping_changes(now_s, new_names=(key.name,))
        self.lag.key_comes(now_s, key.kid)
        return self.add(key)

    def change(self, key: Sobject, request: SobjectRequest) -> Sobject:
        """Apply a PATCH; every mentioned field is replaced as a whole.

        Raises:
            DsmError: 400 when key_ops would gain one, 409 when the name is taken.
        """
        if request.key_ops is not None and not set(request.key_ops) <= set(key.key_ops):
            raise bad_request("key_ops can be removed, not added")
        if request.name is not None and request.name != key.name:
            self.rename(key, request.name)
        self._before(key)
        for field in (
            "key_ops",
            "enabled",
            "description",
            "custom_metadata",
            "activation_date",
            "deactivation_date",
            "aes",
        ):
            value = getattr(request, field)
            if value is not None:
                setattr(key, field, value)
        if request.rotation_policy is not None:
            self.set_rotation_policy(key, request.rotation_policy)
        return self._settled(key)

    def set_rotation_policy(self, key: Sobject, policy: RotationPolicy | None) -> None:
        """Let *key* be rotated by *policy*, or no more."""
        self.changes += 1
        key.rotation_policy = policy
        key.scheduled_rotation = (
            None if policy is None else policy.first_after(self._clock.now())
        )
        self._reschedule()

    def rename(self, key: Sobject, name: str) -> None:
        """Give *key* another name.

        Raises:
            DsmError: 409, the name is taken.
        """
        self._expect_free(name)
        self.lag.mapping_changes(self._clock.now(), key, new_names=(name,))
        self._rename(key, name)

    def rekey(
        self,
        key: Sobject,
        request: SobjectRequest,
        *,
        creator_app_id: str,
        deactivate_rotated_key: bool | None = None,
        due_s: float | None = None,
    ) -> Sobject:
        """Rotate *key*: a new key takes its name, and the two link to each other.

        Args:
            key: The present bearer of the name.
            request: What the new key has in another way than the old one.
            creator_app_id: Who rotates.
            deactivate_rotated_key: Whether the old key goes to Deactivated; the account
                knows when absent.
            due_s: When it happens, or has happened; now when absent.

        Returns:
            The new key.
        """
        now_s = self._clock.now() if due_s is None else due_s
        if deactivate_rotated_key is None:
            deactivate_rotated_key = self._account.deactivate_rotated_key
        new = successor(key, request, creator_app_id=creator_app_id, now_s=now_s)
        rotated_name = self._rotated_name(key.name, now_s)
        self.lag.mapping_changes(now_s, key, new_names=(rotated_name,))
        self.lag.key_comes(now_s, new.kid)
        self._rename(key, rotated_name)
        key.replacement = new.kid
        key.rotation_policy = key.scheduled_rotation = None
        if deactivate_rotated_key:
            self.undos.remember(key, now_s)
            key_life.deactivate(self._account, key, now_s)
        return self.add(new)

    def replace(self, old: Sobject, old_new_name: str, new: Sobject) -> None:
        """Move the name of *old* to *new*, an existing key, and link the two.

        Raises:
            DsmError: 400 for one key twice, 409 when *old_new_name* is taken.
        """
        if old is new:
            raise bad_request("a key does not replace itself")
        self._expect_free(old_new_name)
        names = (old_new_name,)
        self.lag.mapping_changes(self._clock.now(), old, new, new_names=names)
        name = old.name
        self._rename(old, old_new_name)
        self._rename(new, name)
        old.replacement = new.kid
        new.replaced = old.kid

    # States.

    def activate(self, key: Sobject) -> None:
        """Make a PreActive key Active.

        Raises:
            DsmError: 400, the key is in another state.
        """
        self._before(key)
        key_life.activate(key, self._clock.now())

    def set_enabled(self, key: Sobject, *, enabled: bool) -> None:
        """Enable or disable *key*; its state stays."""
        self._before(key)
        key.enabled = enabled

    def deactivate(self, key: Sobject) -> None:
        """Make a key Deactivated, and disabled if the account says so."""
        self._before(key)
        key_life.deactivate(self._account, key, self._clock.now())

    def revoke(self, key: Sobject, code: str, message: str | None = None) -> None:
        """Deactivate a key, or mark it compromised, by the reason's code.

        Raises:
            DsmError: 400, no such code.
        """
        self._before(key)
        key_life.revoke(self._account, key, code, message, self._clock.now())

    def destroy(self, key: Sobject) -> None:
        """Drop the material; the metadata stay."""
        self._before(key)
        key_life.destroy(key, self._clock.now())

    def delete(self, key: Sobject) -> None:
        """Drop the material and free the name."""
        self.lag.key_goes(self._clock.now(), key)
        self._before(key)
        del self._by_name[key.name]
        key_life.delete(key, self._clock.now())

    def undo(
        self, key: Sobject, *, within_s: float = math.inf, change_id: str | None = None
    ) -> None:
        """Make *key* what it was before its latest change, or before that of this id.

        Args:
            key: Any key, a deleted one too.
            within_s: How long ago the change may have been made.
            change_id: The id of an item of `history`.

        Raises:
            DsmError: 400, there is no such change; 409, the name of a deleted key is
                taken.
        """
        changes = self.undos.changes(key.kid, self._clock.now() - within_s)
        chosen = [c for c in changes if change_id in {None, c.change_id}]
        if not chosen:
            raise bad_request("there is nothing to revert")
        if key.state is KeyState.DELETED:
            self._expect_free(key.name)
            self._by_name[key.name] = key
        self.changes += 1
        self.lag.state_changes(self._clock.now(), key)
        self.undos.undo(key, chosen[-1])

    def _before(self, key: Sobject) -> None:
        now_s = self._clock.now()
        self.changes += 1
        self.lag.state_changes(now_s, key)
        self.undos.remember(key, now_s)

    def _rotate(self, key: Sobject, due_s: float) -> None:
        policy = key.rotation_policy
        key.scheduled_rotation = None
        # A key that is destroyed or deleted has nothing to rotate.
        if policy is not None and key.material is not None:
            self.rekey(
                key,
                SobjectRequest(),
                creator_app_id=key.creator_app_id,
                deactivate_rotated_key=policy.deactivate_rotated_key,
                due_s=due_s,
            )

    def _rotated_name(self, name: str, now_s: float) -> str:
        # Two rotations in one second must not collide, as they do under a frozen clock.
        stamp = _stamp(self.rules.rotated_name_form, now_s)
        rotated = f"{name} (rotated at {stamp})"
        again = 1
        while rotated in self._by_name:
            again += 1
            rotated = f"{name} (rotated at {stamp}, {again})"
        return rotated


def _stamp(form: RotatedNameForm, instant_s: float) -> str:
    if form is RotatedNameForm.EPOCH:
        return str(int(instant_s))
    if form is RotatedNameForm.ISO:
        return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return basic_iso(instant_s)

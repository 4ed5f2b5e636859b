"""Who may do what: the account, its groups, and apps with their API keys.

An API key is the base64 of `<app id>:<secret>` and is sent verbatim after `Basic`
(reference, section 1.1).
"""

import hmac
import secrets
import uuid
from enum import StrEnum

from attrs import Factory, define, field, frozen

from dsm_emulator.credentials import Credential
from dsm_emulator.wire import encode_base64


SECRET_BYTES = 64


class Role(StrEnum):
    """Admin apps manage keys, crypto apps use them."""

    ADMIN = "admin"
    CRYPTO = "crypto"


class Permission(StrEnum):
    """What a crypto app may do with the keys of one group."""

    ENCRYPT = "ENCRYPT"
    DECRYPT = "DECRYPT"
    EXPORT = "EXPORT"
    # MANAGE stands for all of those below.
    MANAGE = "MANAGE"
    CREATE_SOBJECTS = "CREATE_SOBJECTS"
    ROTATE_SOBJECTS = "ROTATE_SOBJECTS"
    ACTIVATE_SOBJECTS = "ACTIVATE_SOBJECTS"
    REVOKE_SOBJECTS = "REVOKE_SOBJECTS"
    DESTROY_SOBJECTS = "DESTROY_SOBJECTS"
    DELETE_SOBJECTS = "DELETE_SOBJECTS"
    UPDATE_SOBJECTS_PROFILE = "UPDATE_SOBJECTS_PROFILE"


@define
class Account:
    """The one account; its switches may be set at any time.

    Attributes:
        acct_id: Its UUID.
        enabled: False stops all crypto with 403, while logging in goes on.
        trial_ends_s: From this instant on all crypto stops in the same way.
        mark_key_disable_when_deactivated: Whether deactivation also takes `enabled`
            from a key. Which value DSM starts with isn't known (section 4.3).
        deactivate_rotated_key: What a rekey does to the old key when it doesn't say;
            which is DSM's default isn't known (section 4.1).
        key_undo_window_s: For so long a change of a key can be undone; None is: no
            policy, hence never.
    """

    acct_id: str = Factory(lambda: str(uuid.uuid4()))
    enabled: bool = True
    trial_ends_s: float | None = None
    mark_key_disable_when_deactivated: bool = False
    deactivate_rotated_key: bool = False
    key_undo_window_s: float | None = None


@define
class Group:
    """A group of keys.

    Attributes:
        name: For people.
        group_id: Its UUID.
        protect_crypto_operations: A quorum policy that covers encrypt and decrypt:
            both answer 403 and ask for approval.
    """

    name: str
    group_id: str = Factory(lambda: str(uuid.uuid4()))
    protect_crypto_operations: bool = False


@frozen
class PreviousSecret:
    """The secret before a reset with a migration period, and when it ends."""

    secret: str = field(repr=lambda _: "'***'")
    valid_until_s: float


@define
class App:
    """An app: the identity that a plugin logs in with.

    Attributes:
        name: For people.
        role: Admin or crypto.
        app_id: Its UUID.
        secret: 64 random bytes, base64url without padding.
        enabled: A disabled app can neither log in nor use its sessions.
        groups: The permissions by group id. An admin app needs none.
        previous: The former secret, while it is still good.
        credential: The kind of credential, and all of it but the secret.
        ip_whitelist: The networks that it may call from; None is: any.
        description: For people.
    """

    name: str
    role: Role = Role.CRYPTO
    app_id: str = Factory(lambda: str(uuid.uuid4()))
    secret: str = field(
        factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=lambda _: "'***'"
    )
    enabled: bool = True
    groups: dict[str, frozenset[Permission]] = Factory(dict)
    previous: PreviousSecret | None = None
    credential: Credential = Factory(Credential)
    ip_whitelist: tuple[str, ...] | None = None
    description: str | None = None

    @property
    def api_key(self) -> str:
        """The API key as DSM shows it."""
        return encode_base64(f"{self.app_id}:{self.secret}".encode())

    @property
    def default_group(self) -> str | None:
        """The group for keys that name none: the first one."""
        return next(iter(self.groups), None)

    @property
    def is_admin(self) -> bool:
        """Whether the app manages keys, in every group."""
        return self.role is Role.ADMIN

    def accepts(self, secret: str, now_s: float) -> bool:
        """Return whether *secret* logs this app in at *now_s*."""
        given = secret.encode()
        if hmac.compare_digest(given, self.secret.encode()):
            return True
        previous = self.previous
        return (
            previous is not None
            and now_s < previous.valid_until_s
            and hmac.compare_digest(given, previous.secret.encode())
        )

    def reset_secret(
        self, migrate_until_s: float | None, size_bytes: int | None = None
    ) -> None:
        """Make a new secret; keep the old one until *migrate_until_s*, if given."""
        self.previous = (
            None
            if migrate_until_s is None
            else PreviousSecret(self.secret, migrate_until_s)
        )
        self.secret = secrets.token_urlsafe(size_bytes or SECRET_BYTES)

    def permits(self, permission: Permission, group_id: str) -> bool:
        """Return whether the app may do *permission* to the keys of *group_id*."""
        held = self.groups.get(group_id, frozenset())
        if permission in held:
            return True
        usage = (Permission.ENCRYPT, Permission.DECRYPT, Permission.EXPORT)
        if permission in usage:
            return False
        return self.is_admin or Permission.MANAGE in held

    def is_member(self, group_id: str) -> bool:
        """Return whether the app sees the keys of *group_id* at all."""
        return self.is_admin or group_id in self.groups

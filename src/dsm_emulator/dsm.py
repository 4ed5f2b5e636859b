"""The model: one DSM with its account, in memory, without HTTP.

Thread-safe in this way: the server answers each request under `Dsm.lock`, and the
methods here that change anything take it too, so a test may call them from its own
thread at any time. Plain switches (`healthy`, `latency_ms`, `account.enabled`,
`sessions.idle_s`, `key.enabled`...) are single assignments, which need no lock. Whoever
does more with `keys` or `sessions` directly does so `with dsm.lock:`.
"""

import threading

from attrs import frozen

from dsm_emulator import access, aes
from dsm_emulator.account import Account, App, Group, Permission, Role
from dsm_emulator.aes_options import AesOptions
from dsm_emulator.clock import Clock
from dsm_emulator.credentials import Credential
from dsm_emulator.errors import DsmError, no_such_key
from dsm_emulator.faults import Faults
from dsm_emulator.headers import HeaderRules
from dsm_emulator.journal import Journal
from dsm_emulator.keystore import KeyStore
from dsm_emulator.logins import Logins
from dsm_emulator.sessions import DEFAULT_IDLE_S, Sessions
from dsm_emulator.sobject import KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest
from dsm_emulator.state_table import Condition, Operation, StateTable


DEMO_KEY_NAME = "Kubernetes Secret Encryption Key"
VERSION = "5.8.0"
_USAGE = frozenset({Permission.ENCRYPT, Permission.DECRYPT})


class Dsm:
    """A DSM with one account.

    Attributes:
        lock: See the module.
        clock: The time of everything here.
        account: The account and its switches.
        groups: By group id.
        logins: The apps, and what happens to a lost session.
        keys: All security objects.
        sessions: All bearer sessions; `sessions.idle_s` is `expires_in`.
        table: What is answered under which condition, cell by cell.
        faults: What goes wrong.
        journal: What was asked.
        healthy: Whether GET /sys/v1/health answers 204 or 503.
        latency_ms: How much later every answer comes.
        sends_request_id: Whether answers carry X-Request-Id.
        headers: Which other headers they carry.
    """

    def __init__(
        self, *, clock: Clock | None = None, session_idle_s: float = DEFAULT_IDLE_S
    ) -> None:
        self.lock = threading.RLock()
        self.clock = Clock() if clock is None else clock
        self.account = Account()
        self.groups: dict[str, Group] = {}
        self.keys = KeyStore(self.account, self.clock)
        self.sessions = Sessions(self.clock, session_idle_s)
        self.table = StateTable()
        self.faults = Faults(self.clock)
        self.journal = Journal()
        self.logins = Logins(self.sessions, self.clock, self.journal)
        self._changes = 0
        self.healthy = True
        self.latency_ms = 0.0
        self.sends_request_id = True
        self.headers = HeaderRules()
        self.clock.on_move.append(self._settle)

    @property
    def revision(self) -> int:
        """A number that grows with each change of what a restart has to keep.

        What a test assigns directly, e.g. `key.enabled`, doesn't count.
        """
        return self._changes + self.keys.changes

    def _settle(self) -> None:
        with self.lock:
            self.keys.settle()

    @classmethod
    def with_demo_key(
        cls,
        name: str = DEMO_KEY_NAME,
        *,
        key_size: int = 256,
        clock: Clock | None = None,
        session_idle_s: float = DEFAULT_IDLE_S,
    ) -> "DemoKey":
        """Make a DSM in which a plugin can start at once.

        Args:
            name: The key's name.
            key_size: In bits.
            clock: The DSM's clock.
            session_idle_s: After how many idle seconds a session ends.
        """
        dsm = cls(clock=clock, session_idle_s=session_idle_s)
        group = dsm.add_group("kubernetes")
        app = dsm.add_app("k8s-sdkms-plugin", groups={group.group_id: _USAGE})
        admin = dsm.add_app("admin", role=Role.ADMIN)
        key = dsm.create_key(
            SobjectRequest(name=name, key_size=key_size),
            creator=admin,
            group_id=group.group_id,
        )
        return DemoKey(dsm=dsm, app=app, admin=admin, group=group, key=key)

    # Apps and sessions.

    def add_group(self, name: str) -> Group:
        """Add a group of keys."""
        with self.lock:
            group = Group(name)
            self.groups[group.group_id] = group
            return group

    def add_app(
        self,
        name: str,
        *,
        role: Role = Role.CRYPTO,
        groups: dict[str, frozenset[Permission]] | None = None,
        credential: Credential | None = None,
    ) -> App:
        """Add an app.

        Args:
            name: For people.
            role: Admin or crypto.
            groups: The permissions by group id.
            credential: What logs it in; its `api_key` when absent.
        """
        with self.lock:
            app = App(
                name,
                role=role,
                groups=dict(groups or {}),
                credential=credential or Credential(),
            )
            self.logins.apps[app.app_id] = app
            self._changes += 1
            return app

    def client_trust(self) -> list[bytes]:
        """Return the certificates (DER) that a TLS server accepts from clients."""
        with self.lock:
            return [
                trusted
                for app in self.logins.apps.values()
                for trusted in app.credential.trusts
            ]

    def kill_sessions(self) -> int:
        """End all sessions, as a restart of DSM does; return how many there were."""
        with self.lock:
            return self.sessions.end_all()

    def reset_secret(self, app: App, migration_s: float | None = None) -> str:
        """Give *app* a new secret and return the new API key.

        Args:
            app: Whose.
            migration_s: For so many seconds the old key and its sessions stay good;
                when absent they end at once.
        """
        with self.lock:
            self.logins.reset_secret(app, migration_s)
            return app.api_key

    # Keys; nothing here asks who is calling.

    def create_key(
        self, request: SobjectRequest, *, creator: App, group_id: str
    ) -> Sobject:
        """Generate a key, or import `request.value`.

        Raises:
            DsmError: 400, 409.
        """
        with self.lock:
            return self.keys.create(
                request, creator_app_id=creator.app_id, group_id=group_id
            )

    def key(self, *, kid: str | None = None, name: str | None = None) -> Sobject:
        """Return the key with *kid*, or the present bearer of *name*.

        Raises:
            DsmError: 404.
        """
        with self.lock:
            if kid is not None:
                return self.keys.by_kid(kid)
            if name is not None:
                return self.keys.by_name(name)
            raise no_such_key()

    def rekey(
        self, name: str, *, deactivate_rotated_key: bool | None = None
    ) -> Sobject:
        """Rotate the key that bears *name* and return the new one.

        Raises:
            DsmError: 404.
        """
        with self.lock:
            old = self.keys.by_name(name)
            return self.keys.rekey(
                old,
                SobjectRequest(),
                creator_app_id=old.creator_app_id,
                deactivate_rotated_key=deactivate_rotated_key,
            )

    def enable(self, key: Sobject) -> None:
        """Enable *key*; its state stays."""
        with self.lock:
            self.keys.set_enabled(key, enabled=True)

    def disable(self, key: Sobject) -> None:
        """Disable *key*; its state stays."""
        with self.lock:
            self.keys.set_enabled(key, enabled=False)

    def activate(self, key: Sobject) -> None:
        """Make a PreActive key Active.

        Raises:
            DsmError: 400, the key is in another state.
        """
        with self.lock:
            self.keys.activate(key)

    def deactivate(self, key: Sobject) -> None:
        """Deactivate *key*; the account decides whether that also disables it."""
        with self.lock:
            self.keys.deactivate(key)

    def compromise(self, key: Sobject) -> None:
        """Mark *key* as compromised."""
        with self.lock:
            self.keys.revoke(key, "KeyCompromise")

    def destroy(self, key: Sobject) -> None:
        """Destroy the material of *key*."""
        with self.lock:
            self.keys.destroy(key)

    def delete(self, key: Sobject) -> None:
        """Delete *key*; its name is free again.

        Raises:
            DsmError: 404, it is deleted already.
        """
        with self.lock:
            if key.state is KeyState.DELETED:
                raise no_such_key()
            self.keys.delete(key)

    # The cipher.

    def encrypt(  # noqa: PLR0913 - the call has these fields
        self,
        app: App,
        key: Sobject,
        mode: str,
        plain: bytes,
        *,
        iv: bytes | None = None,
        ad: bytes | None = None,
        tag_bits: int | None = None,
    ) -> aes.Sealed:
        """Encrypt *plain* with *key* for *app*.

        Raises:
            DsmError: What the table says for the first rule that is broken.
        """
        with self.lock:
            material = self._usable(app, key, Operation.ENCRYPT)
            if key.aes is not None:
                self._expect_within(key.aes, mode, iv, tag_bits)
            try:
                return aes.encrypt(
                    material, mode, plain, iv=iv, ad=ad, tag_bits=tag_bits
                )
            except aes.MalformedInput as refused:
                raise self._cell(
                    Condition.MALFORMED, Operation.ENCRYPT, str(refused)
                ) from None

    def decrypt(  # noqa: PLR0913 - the call has these fields
        self,
        app: App,
        key: Sobject,
        mode: str,
        cipher: bytes,
        *,
        iv: bytes | None = None,
        ad: bytes | None = None,
        tag: bytes | None = None,
    ) -> bytes:
        """Decrypt *cipher* with *key* for *app*.

        Raises:
            DsmError: What the table says for the first rule that is broken.
        """
        with self.lock:
            material = self._usable(app, key, Operation.DECRYPT)
            try:
                return aes.decrypt(material, mode, cipher, iv=iv, ad=ad, tag=tag)
            except aes.MalformedInput as refused:
                raise self._cell(
                    Condition.MALFORMED, Operation.DECRYPT, str(refused)
                ) from None
            except aes.WrongTag:
                raise self._cell(
                    Condition.WRONG_TAG, Operation.DECRYPT, Condition.WRONG_TAG.value
                ) from None

    def _usable(self, app: App, key: Sobject, operation: Operation) -> bytes:
        group = self.groups[key.group_id]
        if not self.account.enabled or (
            self.account.trial_ends_s is not None
            and self.clock.now() >= self.account.trial_ends_s
        ):
            access.check(self.table, Condition.ACCOUNT_DISABLED, operation)
        access.expect_usable(self.table, app, group, key, operation=operation)
        if key.material is None:
            raise AssertionError("a key that is destroyed or deleted came through")
        return key.material

    def _expect_within(
        self, limits: AesOptions, mode: str, iv: bytes | None, tag_bits: int | None
    ) -> None:
        if limits.random_iv and iv is not None:
            access.check(self.table, Condition.CALLER_IV, Operation.ENCRYPT)
        broken = limits.violation(mode, iv, tag_bits)
        if broken is not None:
            raise self._cell(Condition.MALFORMED, Operation.ENCRYPT, broken)

    def _cell(self, condition: Condition, operation: Operation, text: str) -> DsmError:
        return access.refusal(self.table.status(condition, operation), text)


@frozen
class DemoKey:
    """A DSM and what a plugin needs to use it.

    Attributes:
        dsm: The DSM.
        app: The plugin's app, of role crypto, with ENCRYPT and DECRYPT.
        admin: An app of role admin.
        group: The group of the key.
        key: An AES key.
    """

    dsm: Dsm
    app: App
    admin: App
    group: Group
    key: Sobject

    @property
    def api_key(self) -> str:
        """The API key of the plugin's app."""
        return self.app.api_key

    @property
    def admin_api_key(self) -> str:
        """The API key of the admin app."""
        return self.admin.api_key

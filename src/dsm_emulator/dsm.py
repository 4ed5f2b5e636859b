"""The model: one DSM with its account, in memory, without HTTP.

Thread-safe in this way: the server answers each request under `Dsm.lock`, and the
methods here that change anything take it too, so a test may call them from its own
thread at any time. Plain switches (`healthy`, `latency_ms`, `account.enabled`,
`sessions.idle_s`, `key.enabled`...) are single assignments, which need no lock. Whoever
does more with `keys` or `sessions` directly does so `with dsm.lock:`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dsm_emulator import access, aes
from dsm_emulator.account import App, Permission, Role
from dsm_emulator.aes import CipherRules
from dsm_emulator.aes_options import AesOptions
from dsm_emulator.answer_shape import Shape
from dsm_emulator.approvals import Approvals
from dsm_emulator.clock import Clock
from dsm_emulator.demo_key import DemoKey
from dsm_emulator.errors import DsmError, no_such_key
from dsm_emulator.faults import Faults
from dsm_emulator.headers import HeaderRules
from dsm_emulator.journal import Journal
from dsm_emulator.keystore import KeyStore
from dsm_emulator.quota import Quota
from dsm_emulator.service_rules import ServiceRules
from dsm_emulator.sessions import DEFAULT_IDLE_S
from dsm_emulator.sobject import KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest
from dsm_emulator.state_table import Condition, Operation, StateTable
from dsm_emulator.tenancy import Tenancy


DEMO_KEY_NAME = "Kubernetes Secret Encryption Key"
VERSION = "5.8.2919"
API_VERSION = "v1"
_USAGE = frozenset({Permission.ENCRYPT, Permission.DECRYPT})


class Dsm(Tenancy):
    """A DSM with one account.

    Attributes:
        keys: All security objects.
        table: What is answered under which condition, cell by cell.
        cipher: The rules of the cipher.
        quota: How many operations are allowed.
        shape: How answers look on the wire.
        rules: What else is a switch.
        approvals: The requests that wait for a quorum.
        faults: What goes wrong.
        journal: What was asked.
        healthy: Whether GET /sys/v1/health answers 204 or 503.
        read_only: Whether calls that write are refused.
        latency_ms: How much later every answer comes.
        sends_request_id: Whether answers carry X-Request-Id.
        headers: Which other headers they carry.
        tls_public_keys_der: The keys of the server's certificates, set by the server.
    """

    def __init__(
        self, *, clock: Clock | None = None, session_idle_s: float = DEFAULT_IDLE_S
    ) -> None:
        self.journal = Journal()
        super().__init__(
            Clock() if clock is None else clock, self.journal, session_idle_s
        )
        self.keys = KeyStore(self.account, self.clock)
        self.table = StateTable()
        self.cipher = CipherRules()
        self.quota = Quota(self.clock)
        self.shape = Shape()
        self.rules = ServiceRules()
        self.approvals = Approvals(self.clock)
        self.faults = Faults(self.clock)
        self.healthy = True
        self.read_only = False
        self.latency_ms = 0.0
        self.sends_request_id = True
        self.headers = HeaderRules()
        self.tls_public_keys_der: list[bytes] = []
        self._quorum_approved = False
        self.clock.on_move.append(self._settle)

    @property
    def revision(self) -> int:
        """A number that grows with each change of what a restart has to keep.

        What a test assigns directly, e.g. `key.enabled`, doesn't count.
        """
        return self._changes + self.keys.changes

    @classmethod
    def with_demo_key(
        cls,
        name: str = DEMO_KEY_NAME,
        *,
        key_size: int = 256,
        clock: Clock | None = None,
        session_idle_s: float = DEFAULT_IDLE_S,
    ) -> DemoKey:
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

    def replace(self, old: Sobject, old_new_name: str, new: Sobject) -> None:
        """Move the name of *old* to *new*, and call *old* another name.

        Raises:
            DsmError: 400, 409.
        """
        with self.lock:
            self.keys.replace(old, old_new_name, new)

    def rename(self, key: Sobject, name: str) -> None:
        """Give *key* another name.

        Raises:
            DsmError: 409.
        """
        with self.lock:
            self.keys.rename(key, name)

    def undo(self, key: Sobject) -> None:
        """Undo the latest change of state of *key*, whatever the account's policy.

        Raises:
            DsmError: 400, 409.
        """
        with self.lock:
            self.keys.undo(key)

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
                    material,
                    mode,
                    plain,
                    iv=iv,
                    ad=ad,
                    tag_bits=tag_bits,
                    rules=self.cipher,
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
                return aes.decrypt(
                    material, mode, cipher, iv=iv, ad=ad, tag=tag, rules=self.cipher
                )
            except aes.MalformedInput as refused:
                raise self._cell(
                    Condition.MALFORMED, Operation.DECRYPT, str(refused)
                ) from None
            except aes.WrongTag:
                raise self._cell(
                    Condition.WRONG_TAG,
                    Operation.DECRYPT,
                    self.table.text(Condition.WRONG_TAG),
                ) from None

    @contextmanager
    def quorum_approved(self) -> Iterator[None]:
        """Let operations through that a quorum has approved; the lock is held."""
        with self.lock:
            self._quorum_approved = True
            try:
                yield
            finally:
                self._quorum_approved = False

    def _settle(self) -> None:
        with self.lock:
            self.keys.settle()

    def _usable(self, app: App, key: Sobject, operation: Operation) -> bytes:
        group = self.groups.get(key.group_id)
        if not self.account.enabled or (
            self.account.trial_ends_s is not None
            and self.clock.now() >= self.account.trial_ends_s
        ):
            access.check(self.table, Condition.ACCOUNT_DISABLED, operation)
        if self.read_only:
            access.check(self.table, Condition.READ_ONLY, operation)
        access.expect_usable(
            self.table,
            app,
            group,
            key,
            operation=operation,
            approved=self._quorum_approved,
        )
        if not self.quota.take():
            access.check(self.table, Condition.OVER_LIMIT, operation)
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

"""The account's groups and apps, and what an administrator does to them at run time.

Each method takes the lock, so a test may call it from its own thread at any time.
"""

import threading

from dsm_emulator.account import Account, App, Group, Permission, Role
from dsm_emulator.clock import Clock
from dsm_emulator.credentials import Credential
from dsm_emulator.errors import DsmError
from dsm_emulator.journal import Journal
from dsm_emulator.logins import Logins
from dsm_emulator.sessions import Sessions


class Tenancy:
    """Who there is.

    Attributes:
        lock: Held during each answer and each change.
        clock: The time of everything here.
        account: The account and its switches.
        groups: By group id.
        logins: The apps, and what happens to a lost session.
        sessions: All bearer sessions; `sessions.idle_s` is `expires_in`.
    """

    def __init__(self, clock: Clock, journal: Journal, session_idle_s: float) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.account = Account()
        self.groups: dict[str, Group] = {}
        self.sessions = Sessions(clock, session_idle_s)
        self.logins = Logins(self.sessions, clock, journal)
        self._changes = 0

    def touch(self) -> None:
        """Say that something changed that a restart has to keep."""
        with self.lock:
            self._changes += 1

    # Groups.

    def add_group(self, name: str) -> Group:
        """Add a group of keys."""
        with self.lock:
            group = Group(name)
            self.groups[group.group_id] = group
            self.touch()
            return group

    def delete_group(self, group: Group) -> None:
        """Delete a group; no app is in it any more, and its keys are out of reach."""
        with self.lock:
            del self.groups[group.group_id]
            for app in self.logins.apps.values():
                app.groups.pop(group.group_id, None)
            self.touch()

    def grant(self, app: App, group: Group, permissions: frozenset[Permission]) -> None:
        """Put *app* into *group* with these permissions, beside those it has there."""
        with self.lock:
            held = app.groups.get(group.group_id, frozenset())
            app.groups[group.group_id] = held | permissions
            self.touch()

    def withdraw(
        self,
        app: App,
        group: Group,
        permissions: frozenset[Permission] | None = None,
    ) -> None:
        """Take permissions in *group* from *app*, or without any its membership.

        Raises:
            DsmError: 404, the app isn't in the group.
        """
        with self.lock:
            held = app.groups.get(group.group_id)
            if held is None:
                raise DsmError(404, "app is not a member of the group")
            if permissions is None:
                del app.groups[group.group_id]
            else:
                app.groups[group.group_id] = held - permissions
            self.touch()

    # Apps and sessions.

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
            self.touch()
            return app

    def set_app_enabled(self, app: App, *, enabled: bool) -> None:
        """Enable or disable an app; a disabled one has neither login nor session."""
        with self.lock:
            app.enabled = enabled
            self.touch()

    def delete_app(self, app: App) -> None:
        """Delete an app with its sessions."""
        with self.lock:
            self.sessions.end_all(app.app_id)
            del self.logins.apps[app.app_id]
            self.touch()

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

    def reset_secret(
        self,
        app: App,
        migration_s: float | None = None,
        size_bytes: int | None = None,
    ) -> str:
        """Give *app* a new secret and return the new API key.

        Args:
            app: Whose.
            migration_s: For so many seconds the old key and its sessions stay good;
                when absent they end at once.
            size_bytes: How long the secret is; 64 when absent.
        """
        with self.lock:
            self.logins.reset_secret(app, migration_s, size_bytes)
            self.touch()
            return app.api_key

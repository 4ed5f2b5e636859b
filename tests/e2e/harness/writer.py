"""Somebody who writes Secrets all the time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs
from tests.e2e.harness.stored import EncryptedObject


if TYPE_CHECKING:
    from tests.e2e.harness.kube import KubeApiServer

PAUSE_S = 0.1


@attrs.frozen
class Written:
    """A Secret that was written, and the provider that encrypted it."""

    name: str
    provider: str


class Writer:
    """Writes Secrets in a thread, reads each back, and sees how it stands in etcd.

    It ends by itself when a provider has encrypted so many of them.
    """

    def __init__(
        self, kube: KubeApiServer, namespace: str, *, until: str, count: int
    ) -> None:
        self.written: list[Written] = []
        self.failures: list[str] = []
        self._kube = kube
        self._namespace = namespace
        self._until = until
        self._left = count
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write_all)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more; idempotent."""
        self._stopped.set()
        self._thread.join()

    def ended(self) -> bool:
        """Tell whether it came to its end, or was stopped."""
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        number = 0
        while self._left and not self._stopped.wait(PAUSE_S):
            name, number = f"secret-{number}", number + 1
            try:
                self._write(name)
            except Exception as error:  # noqa: BLE001 # each is a finding
                self.failures.append(f"{name}: {error!r}")

    def _write(self, name: str) -> None:
        self._kube.create_secret(self._namespace, name, name)
        assert self._kube.secret(self._namespace, name) == name
        value = self._kube.stored(self._namespace, name)
        provider = EncryptedObject.from_etcd(value).provider
        self.written.append(Written(name, provider))
        self._left -= provider == self._until

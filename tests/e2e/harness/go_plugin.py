"""What a kube-apiserver with Fortanix' Go plugin 0.3.0 left in etcd."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

import cbor2
from tests.e2e.harness import stored
from tests.e2e.harness.kube import secret
from tests.e2e.harness.plugin import START_S, Sealed
from tests.e2e.harness.program import ROOT, Program


if TYPE_CHECKING:
    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon


def put_secret(
    kube: KubeApiServer, daemon: Daemon, namespace: str, name: str, text: str
) -> None:
    """Store a Secret as kube-apiserver did with the Go plugin in the daemon's place.

    It has a seed of its own, so that nobody can read it without a Decrypt.
    """
    emulator, key_name = daemon.emulator, daemon.key_name
    seed, key = os.urandom(32), kube.etcd_key(namespace, name)
    plaintext = json.dumps(secret(namespace, name, text)).encode()
    made = stored.EncryptedObject(
        provider="dsm",
        encrypted_data=stored.encrypt(plaintext, seed, key),
        key_id=key_id(emulator.endpoint, key_name),
        sealed_seed=blob(emulator.encrypt(key_name, seed)),
        annotations={},
        source_type=stored.SEED,
    )
    kube.etcd.put(key, made.to_etcd())


def key_id(endpoint: str, key_name: str) -> str:
    """Return the key_id that the Go plugin reports (dsm-api.md 8.1)."""
    return hashlib.sha256((endpoint + key_name).encode()).hexdigest()


def blob(sealed: Sealed) -> bytes:
    """Return a sealed seed as the Go plugin 0.3.0 writes it (dsm-api.md 8.1)."""
    return cbor2.dumps(
        {
            "Version": 1,
            "KID": sealed.kid,
            "Cipher": sealed.cipher,
            "IV": sealed.iv,
            "Tag": sealed.tag,
        }
    )


def sealed_in(found_blob: bytes) -> Sealed:
    """Take the Go plugin's sealed seed apart, and see that it is one."""
    found = cbor2.loads(found_blob)
    assert list(found) == ["Version", "KID", "Cipher", "IV", "Tag"]
    assert found["Version"] == 1
    return Sealed(found["KID"], found["Cipher"], found["IV"], found["Tag"])


class GoPlugin(Program):
    """The stand-in for the Go plugin, at a daemon's socket and with its config file."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(f"{daemon.name}-go", daemon.folder)
        self._daemon = daemon

    def start(self) -> None:
        """Start it and wait until its socket accepts."""
        module = "tests.e2e.harness.go_plugin_server"
        words = [sys.executable, "-m", module, "-config", str(self._daemon.config)]
        self.run(words, {**self._daemon.environ, "PYTHONPATH": str(ROOT)})
        self.await_true(self._daemon.accepts, within_s=START_S, what="it accepts")

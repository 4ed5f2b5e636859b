"""A real etcd, and its store seen past kube-apiserver."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx
from tests.e2e.harness.program import Program, free_port


if TYPE_CHECKING:
    from pathlib import Path


class Etcd(Program):
    """One etcd on loopback ports, without fsync: its data need not outlive it."""

    def __init__(self, binary: Path, folder: Path, name: str = "etcd") -> None:
        super().__init__(name, folder / name)
        self._binary = binary
        self.url = f"http://127.0.0.1:{free_port()}"
        self._peer_url = f"http://127.0.0.1:{free_port()}"
        self._client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.run(
            [
                self._binary,
                "--name=e2e",
                f"--data-dir={self.folder / 'data'}",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={self._peer_url}",
                f"--initial-advertise-peer-urls={self._peer_url}",
                f"--initial-cluster=e2e={self._peer_url}",
                "--unsafe-no-fsync",
                "--logger=zap",
                "--log-level=warn",
            ]
        )
        self.await_true(self._healthy, within_s=30, what="it is healthy")

    def close(self) -> None:
        """End it for good; its data ends with it."""
        self._client.close()
        self.kill()

    def get(self, key: str) -> bytes:
        """Return the stored value, byte for byte; the key must be there."""
        found = self._range({"key": _encoded(key)})
        assert found, f"etcd has no {key}"
        return found[key]

    def under(self, prefix: str) -> dict[str, bytes]:
        """Return every key below the prefix, with its value."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._range({"key": _encoded(prefix), "range_end": _encoded(end)})

    def put(self, key: str, value: bytes) -> None:
        """Store a value as if kube-apiserver had."""
        body = {"key": _encoded(key), "value": base64.b64encode(value).decode()}
        self._client.post("/v3/kv/put", json=body).raise_for_status()

    def snapshot(self, path: Path) -> Path:
        """Save a snapshot, byte for byte what ``etcdctl snapshot save`` writes."""
        url = "/v3/maintenance/snapshot"
        with (
            path.open("wb") as file,
            self._client.stream("POST", url, json={}) as answer,
        ):
            for line in answer.raise_for_status().iter_lines():
                part = json.loads(line)["result"]
                file.write(base64.b64decode(part.get("blob", "")))
        return path

    def _healthy(self) -> bool:
        try:
            answer = self._client.get("/health")
        except httpx.TransportError:
            return False
        return answer.is_success and answer.json()["health"] == "true"

    def _range(self, body: dict[str, str]) -> dict[str, bytes]:
        answer = self._client.post("/v3/kv/range", json=body).raise_for_status()
        return {
            base64.b64decode(kv["key"]).decode(): base64.b64decode(kv["value"])
            for kv in answer.json().get("kvs", [])
        }


def _encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()

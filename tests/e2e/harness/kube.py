"""A real kube-apiserver, and a small client of its API."""

from __future__ import annotations

import base64
import json
import re
import ssl
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.e2e.harness.program import Program, free_port


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.e2e.harness.etcd import Etcd

TOKEN = "e2e-token"
START_S = 60.0
_KEY_ID_HASH = re.compile(r'[{,]key_id_hash="([^"]*)"')


@attrs.frozen
class Kms:
    """One KMS v2 provider of an encryption configuration."""

    name: str
    socket: Path

    def __str__(self) -> str:
        return self.name


def encryption_configuration(*providers: Kms) -> str:
    """Return the configuration that encrypts Secrets with the first provider."""
    kms = [
        {
            "kms": {
                "apiVersion": "v2",
                "name": each.name,
                "endpoint": f"unix://{each.socket}",
                "timeout": "3s",
            }
        }
        for each in providers
    ]
    resources = [{"resources": ["secrets"], "providers": [*kms, {"identity": {}}]}]
    return json.dumps(
        {
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": resources,
        }
    )


class KubeApiServer(Program):
    """One kube-apiserver on a loopback port.

    Servers of one cluster share an etcd and a prefix in it; those of several clusters
    may share an etcd if each has another prefix.
    """

    def __init__(
        self,
        binary: Path,
        etcd: Etcd,
        folder: Path,
        name: str,
        *providers: Kms,
        etcd_prefix: str = "/registry",
    ) -> None:
        super().__init__(name, folder / name)
        self.etcd = etcd
        self._etcd_prefix = etcd_prefix
        self._binary = binary
        self._port = free_port()
        self._encryption = self.folder / "encryption.json"
        self.configure(*providers)
        tls = _credentials(self.folder)
        self._client = httpx.Client(
            base_url=f"https://127.0.0.1:{self._port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            verify=tls,
            timeout=30,
            trust_env=False,
        )

    @property
    def encryption(self) -> Path:
        """The file that its --encryption-provider-config names."""
        return self._encryption

    def configure(self, *providers: Kms) -> None:
        """Write the encryption configuration; a running server sees it in a minute."""
        self.configure_with(encryption_configuration(*providers))

    def configure_with(self, text: str) -> None:
        """Do the same with a configuration that somebody else made."""
        # Replaced whole, as an operator's tool would: never seen half-written.
        fresh = self._encryption.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._encryption)

    def kubeconfig(self) -> Path:
        """Write a kubeconfig for kubectl; return its path."""
        path = self.folder / "kubeconfig.json"
        server = {
            "server": f"https://127.0.0.1:{self._port}",
            "certificate-authority": str(self.folder / "ca.crt"),
        }
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": server}],
            "users": [{"name": "e2e", "user": {"token": TOKEN}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
            "current-context": "e2e",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(written))
        return path

    def start(self, *, check: str = "/readyz") -> None:
        """Start it and wait until it says ok, at that path."""
        if self.etcd.exit_code is not None:
            self.etcd.start()
        here = self.folder
        self.run(
            [
                self._binary,
                f"--etcd-servers={self.etcd.url}",
                f"--etcd-prefix={self._etcd_prefix}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--tls-cert-file={here / 'tls.crt'}",
                f"--tls-private-key-file={here / 'tls.key'}",
                f"--cert-dir={here / 'certs'}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
                "--disable-admission-plugins=ServiceAccount",
                "--authorization-mode=RBAC",
                f"--token-auth-file={here / 'tokens.csv'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={here / 'sa.pub'}",
                f"--service-account-signing-key-file={here / 'sa.key'}",
                f"--encryption-provider-config={self._encryption}",
                "--encryption-provider-config-automatic-reload=true",
                "-v=2",
            ]
        )
        self.await_true(
            lambda: self._says_ok(check), within_s=START_S, what=f"{check} is ok"
        )

    def restart(self) -> None:
        """Stop it and start it again: all its caches and its seed are new."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and its etcd; nobody needs an orderly end, which can take 10 s."""
        self._client.close()
        self.kill()
        self.etcd.close()

    def health(self, path: str) -> tuple[int, str]:
        """Return the code and text of one of its health endpoints."""
        answer = self._client.get(path)
        return answer.status_code, answer.text

    def await_health(
        self, code: int, path: str, *, within_s: float, saying: str = ""
    ) -> str:
        """Wait until a health endpoint answers so; return all that it says."""

        def text_that_says_so() -> str | None:
            found, text = self.health(path)
            assert found == code, text
            assert saying in text, text
            return text

        what = f"{path} answers {code} {saying}".rstrip()
        return self.await_true(text_that_says_so, within_s=within_s, what=what)

    def decrypt_calls(self) -> int:
        """Return how many Decrypt calls succeeded since it started."""
        return self._calls("Decrypt")

    def status_calls(self) -> int:
        """Return how many Status calls succeeded since it started."""
        return self._calls("Status")

    def key_id_hashes(self, direction: str) -> set[str]:
        """Return the hashes of all key_ids it used since it started.

        Args:
            direction: ``to_storage`` or ``from_storage``.
        """
        found = self._metric("apiserver_envelope_encryption_key_id_hash_total")
        wanted = f'transformation_type="{direction}"'
        hashes = (_KEY_ID_HASH.search(labels) for labels in found if wanted in labels)
        return {each[1] for each in hashes if each is not None}

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        _ok(self._client.post("/api/v1/namespaces", json=body))

    def create_secret(self, namespace: str, name: str, text: str) -> None:
        """Create a Secret with one entry, ``text``."""
        _ok(self.try_create_secret(namespace, name, text))

    def try_create_secret(self, namespace: str, name: str, text: str) -> httpx.Response:
        """As ``create_secret``, but hand back whatever the server answers."""
        body = secret(namespace, name, text)
        return self._client.post(f"/api/v1/namespaces/{namespace}/secrets", json=body)

    def secret(self, namespace: str, name: str) -> str:
        """Return the ``text`` of a Secret."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        return _text(_ok(self._client.get(path)).json())

    def secrets(self, namespace: str) -> dict[str, str]:
        """LIST a namespace's Secrets: their ``text`` by name."""
        answer = _ok(self._client.get(f"/api/v1/namespaces/{namespace}/secrets"))
        return {s["metadata"]["name"]: _text(s) for s in answer.json()["items"]}

    def delete_secret(self, namespace: str, name: str) -> None:
        """Delete a Secret."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        _ok(self._client.delete(path))

    def rewrite_secret(self, namespace: str, name: str) -> None:
        """Read a Secret and write it back unchanged, as a storage migration does."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        _ok(self._client.put(path, json=_ok(self._client.get(path)).json()))

    def rewrite_everything(self) -> None:
        """Rewrite every Secret of every namespace: a whole storage migration."""
        for each in _ok(self._client.get("/api/v1/secrets")).json()["items"]:
            found = each["metadata"]
            self.rewrite_secret(found["namespace"], found["name"])

    def dry_run_pod(self, manifest: dict[str, Any]) -> httpx.Response:
        """Have a pod checked, every field of it, as if it were to be made."""
        namespace = manifest["metadata"]["namespace"]
        return self._client.post(
            f"/api/v1/namespaces/{namespace}/pods",
            params={"dryRun": "All", "fieldValidation": "Strict"},
            json=manifest,
        )

    def etcd_key(self, namespace: str, name: str) -> str:
        """Return the key in etcd of a Secret."""
        return f"{self._etcd_prefix}/secrets/{namespace}/{name}"

    def all_stored(self) -> dict[str, bytes]:
        """Return every Secret as it stands in etcd, by its key there."""
        return self.etcd.under(f"{self._etcd_prefix}/secrets/")

    def stored(self, namespace: str, name: str) -> bytes:
        """Return a Secret as it stands in etcd."""
        return self.etcd.get(self.etcd_key(namespace, name))

    def _calls(self, method: str) -> int:
        name = "apiserver_envelope_encryption_kms_operations_latency_seconds_count"
        wanted = ('grpc_status_code="OK"', f"/{method}")
        calls = self._metric(name).items()
        return sum(int(n) for labels, n in calls if all(w in labels for w in wanted))

    def _metric(self, name: str) -> dict[str, float]:
        lines = self._client.get("/metrics").raise_for_status().text.splitlines()
        found = (line.rpartition(" ") for line in lines if line.startswith(name + "{"))
        return {labels.removeprefix(name): float(value) for labels, _, value in found}

    def _says_ok(self, path: str) -> bool:
        try:
            code, text = self.health(path)
        except httpx.TransportError:
            return False
        assert code == httpx.codes.OK, text
        return True


def secret(namespace: str, name: str, text: str) -> dict[str, Any]:
    """Return a Secret with one entry, ``text``, in the API's JSON."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {"text": base64.b64encode(text.encode()).decode()},
    }


def _text(found: dict[str, Any]) -> str:
    return base64.b64decode(found["data"]["text"]).decode()


def _ok(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, f"{answer.status_code}: {answer.text}"
    return answer


def _credentials(folder: Path) -> ssl.SSLContext:
    """Make the server's certificate, its service-account key and the test's token."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(folder / "tls.key"))
    _write_chain(folder / "tls.crt", server.cert_chain_pems)
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "sa.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    (folder / "tokens.csv").write_text(f"{TOKEN},e2e,e2e,system:masters\n")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def _write_chain(path: Path, chain: Sequence[trustme.Blob]) -> None:
    path.write_bytes(b"".join(blob.bytes() for blob in chain))

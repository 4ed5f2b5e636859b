"""What ``render`` prints, taken by a real kube-apiserver."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.e2e.harness.plugin import told
from tests.e2e.harness.program import eventually


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Binaries, Workshop
    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon

NAMESPACE = "rendered"
RKE2_KEY = {
    "name": "aescbckey",
    "secret": base64.b64encode(os.urandom(32)).decode(),
}
RKE2_DEFAULT: dict[str, Any] = {
    "kind": "EncryptionConfiguration",
    "apiVersion": "apiserver.config.k8s.io/v1",
    "resources": [
        {
            "resources": ["secrets"],
            "providers": [{"aescbc": {"keys": [RKE2_KEY]}}, {"identity": {}}],
        }
    ],
}


def rendered(*words: str | Path) -> str:
    done = told("render", *words)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def daemon(workshop: Workshop) -> Iterator[Daemon]:
    daemon = workshop.native_daemon("rendered")
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def kube(workshop: Workshop) -> Iterator[KubeApiServer]:
    """As RKE2 and k3s start it: everything by a key in the file."""
    kube = workshop.kube("rendered")
    kube.configure_with(json.dumps(RKE2_DEFAULT))
    kube.start()
    kube.create_namespace(NAMESPACE)
    yield kube
    kube.close()


def kubeadm_manifest() -> dict[str, Any]:
    """Return a kube-apiserver of the form that kubeadm writes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-apiserver", "namespace": "kube-system"},
        "spec": {
            "containers": [
                {
                    "name": "kube-apiserver",
                    "image": "kube-apiserver",
                    "command": ["kube-apiserver", "--secure-port=6443"],
                    "volumeMounts": [{"name": "certs", "mountPath": "/etc/ssl/certs"}],
                }
            ],
            "hostNetwork": True,
            "volumes": [{"name": "certs", "hostPath": {"path": "/etc/ssl/certs"}}],
        },
    }


def test_everything_goes_from_aescbc_to_kms_and_back(
    kube: KubeApiServer, daemon: Daemon, tmp_path: Path
) -> None:
    expected = {f"secret-{i}": f"value {i}" for i in range(5)}
    for name, text in expected.items():
        kube.create_secret(NAMESPACE, name, text)
    settings = ("--config", daemon.config)
    step = tmp_path / "encryption.yaml"
    step.write_text(json.dumps(RKE2_DEFAULT))

    def everything_reads_back() -> None:
        assert kube.secrets(NAMESPACE) == expected

    def verify(*words: str) -> int:
        prefix = f"/registry/secrets/{NAMESPACE}/"
        return told("verify", prefix, "--endpoints", kube.etcd.url, *words).code

    everything_reads_back()
    assert verify("--expect-provider", "aescbc:aescbckey") == 0

    rendered("encryption-config", *settings, "--merge", step, "--output", step)
    kube.configure_with(step.read_text())
    kube.restart()
    everything_reads_back()
    assert verify() == 1
    kube.create_secret(NAMESPACE, "between", "new")
    expected["between"] = "new"
    everything_reads_back()
    kube.rewrite_everything()
    everything_reads_back()
    assert verify("--open", "--socket", str(daemon.socket)) == 0

    back = ("--merge", step, "--back-to", "aescbc", "--output", step)
    rendered("encryption-config", *settings, *back)
    kube.configure_with(step.read_text())
    kube.restart()
    everything_reads_back()
    assert verify("--expect-provider", "aescbc:aescbckey") == 1
    kube.rewrite_everything()
    assert verify("--expect-provider", "aescbc:aescbckey") == 0
    # Nothing needs the plugin any more.
    kube.configure_with(json.dumps(RKE2_DEFAULT))
    daemon.stop()
    kube.restart()
    everything_reads_back()


def test_configuration_of_several_rules_is_taken_by_the_server(
    workshop: Workshop, tmp_path: Path
) -> None:
    daemon = workshop.native_daemon("several")
    daemon.configure()
    aescbc, identity = RKE2_DEFAULT["resources"][0]["providers"]
    rules = [
        {"resources": ["events"], "providers": [identity]},
        {"resources": ["secrets", "configmaps"], "providers": [aescbc, identity]},
        {"resources": ["*.apps"], "providers": [identity, aescbc]},
    ]
    current = tmp_path / "current.json"
    current.write_text(json.dumps({**RKE2_DEFAULT, "resources": rules}))
    of = ("secrets", "deployments.apps", "widgets.example.com")
    resources = (word for name in of for word in ("--resource", name))
    merged = rendered(
        *("encryption-config", "--config", daemon.config, "--merge", current),
        *resources,
    )
    names = [
        rule["providers"][0].get("kms", {}).get("name")
        for rule in yaml.safe_load(merged)["resources"]
    ]
    assert names == [None, "dsm", "dsm-2", "dsm-3"]

    kube = workshop.kube("several")
    try:
        daemon.start()
        kube.configure_with(merged)
        kube.start()
        kube.create_namespace(NAMESPACE)
        kube.create_secret(NAMESPACE, "one", "two")
        assert kube.stored(NAMESPACE, "one").startswith(b"k8s:enc:kms:v2:dsm:")
        # What kube-apiserver makes by itself, of the other resource of that rule.
        maps = eventually(
            lambda: kube.etcd.under("/registry/configmaps/"), within_s=30, what="maps"
        )
        assert all(v.startswith(b"k8s:enc:kms:v2:dsm:") for v in maps.values())
    finally:
        kube.close()
        daemon.close()


@pytest.mark.parametrize("variant", [(), ("--non-root",), ("--pull",)])
def test_static_pod_is_one_by_the_schema_of_the_server(
    variant: tuple[str, ...], kube: KubeApiServer
) -> None:
    manifest = yaml.safe_load(rendered("static-pod", *variant))
    _expect_taken(kube, manifest)
    manifest["spec"]["containers"][0]["livenessprobe"] = {}
    assert kube.dry_run_pod(manifest).status_code == 400


def test_patched_kube_apiserver_of_kubeadm_is_one_too(
    kube: KubeApiServer, binaries: Binaries
) -> None:
    patch = yaml.safe_load(rendered("kubeadm-patch"))
    manifest = kubeadm_manifest()
    for step in patch:
        assert step["op"] == "add"
        _add(manifest, step["path"], step["value"])
    _expect_taken(kube, manifest)
    command = manifest["spec"]["containers"][0]["command"]
    assert len(command) == 4
    _expect_flags(binaries, [word.partition("=")[0] for word in command[2:]])


@pytest.mark.parametrize("distribution", ["k3s", "rke2"])
def test_flags_of_the_distributions_are_the_servers(
    distribution: str, binaries: Binaries
) -> None:
    config = yaml.safe_load(rendered(distribution))
    arguments = config["kube-apiserver-arg+"]
    _expect_flags(binaries, [f"--{each.partition('=')[0]}" for each in arguments])


def test_encryption_config_of_rke1_is_taken_by_the_server(
    workshop: Workshop,
) -> None:
    daemon = workshop.native_daemon("rke1")
    kube = workshop.kube("rke1")
    try:
        daemon.start()
        cluster = yaml.safe_load(rendered("rke1", "--config", daemon.config))
        api = cluster["services"]["kube-api"]
        custom = api["secrets_encryption_config"]["custom_config"]
        kube.configure_with(yaml.safe_dump(custom))
        kube.start()
        kube.create_namespace(NAMESPACE)
        kube.create_secret(NAMESPACE, "one", "two")
        assert kube.stored(NAMESPACE, "one").startswith(b"k8s:enc:kms:v2:dsm:")
    finally:
        kube.close()
        daemon.close()


def _expect_taken(kube: KubeApiServer, manifest: dict[str, Any]) -> None:
    def taken() -> bool:
        # The server makes kube-system and its priority classes soon after its start.
        answer = kube.dry_run_pod(manifest)
        assert answer.status_code == 201, answer.text
        return True

    eventually(taken, within_s=30, what="the pod is taken")


def _expect_flags(binaries: Binaries, flags: list[str]) -> None:
    done = subprocess.run(
        [binaries.kube_apiserver, "--help"], capture_output=True, text=True, check=True
    )
    assert flags
    for flag in flags:
        assert f"{flag} " in done.stdout


def _add(document: Any, path: str, value: Any) -> None:
    """Carry out the one operation of RFC 6902 that is used: add to a list's end."""
    *parts, last = path.strip("/").split("/")
    assert last == "-"
    for part in parts:
        document = document[int(part) if isinstance(document, list) else part]
    document.append(value)

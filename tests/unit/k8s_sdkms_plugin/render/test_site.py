"""Units and pods agree with the settings, and settings with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from tests.unit.k8s_sdkms_plugin.render.support import Render


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("socket_file=/run/kms.sock", "belongs to others too"),
        ("socket_file=/var/run/kms.sock", "belongs to others too"),
        ("socket_file=/etc/fortanix/kms.sock", "--installed-as: is in the socket's"),
        ("socket_file=/var/lib/k8s-sdkms-plugin/s/s", "inside state_dir"),
        ("socket_file=/var/run/a b/s.sock", "quote"),
        ("state_dir=/var/lib", "belongs to others too"),
        ("state_dir=/run/state", "does not survive a reboot"),
        ("state_dir=/run/kms-plugin/state", "state_dir: is in the socket's folder"),
        ("ca_file=/var/run/kms-plugin/ca.pem", "ca_file: is in the socket's folder"),
        ("ca_file=/etc/ca\\n.pem", "quote"),
        ("socket_group=a b", "socket_group"),
    ],
)
@pytest.mark.parametrize("file", ["systemd", "static-pod", "k3s"])
def test_settings_that_clash_are_refused(
    file: str, setting: str, says: str, render: Render
) -> None:
    made = render(file, "--set", setting)
    assert (made.code, made.out) == (2, "")
    assert says in made.err


def test_every_problem_is_said_at_once(render: Render) -> None:
    made = render("systemd", "--set", "state_dir=/a b", "--set", "ca_file=/c d")
    assert len(made.err.splitlines()) == 2


def test_var_run_is_run(render: Render) -> None:
    made = render("systemd", "--set", "socket_file=/var/run/other/s.sock").out
    assert "RuntimeDirectory=other\n" in made
    assert "RuntimeDirectoryPreserve=yes\n" in made


def test_unit_may_write_to_folders_that_it_does_not_make(render: Render) -> None:
    made = render(
        *("systemd", "--set", "socket_file=/srv/kms/s.sock"),
        *("--set", "state_dir=/srv/state"),
    ).out
    assert "ReadWritePaths=/srv/kms\n" in made
    assert "ReadWritePaths=/srv/state\n" in made
    assert "Directory=" not in made


def test_unit_without_a_state_dir_makes_none(render: Render) -> None:
    assert "StateDirectory" not in render("systemd", "--set", "state_dir=").out


def test_socket_group_is_the_group_of_the_process(render: Render) -> None:
    settings = ("--set", "socket_group=1234", "--set", "socket_mode=0660")
    unit = render("systemd", *settings).out
    assert "Group=1234\nRuntimeDirectory=kms-plugin\nRuntimeDirectoryMode=0750" in unit
    assert "SystemCallFilter=prlimit64 setrlimit @chown" in unit
    pod = render("static-pod", *settings).yaml
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["runAsGroup"] == 1234
    owned = render("static-pod", "--non-root", *settings).yaml
    assert "64535:1234" in owned["spec"]["initContainers"][0]["command"]


def test_name_of_a_group_means_nothing_in_a_container(render: Render) -> None:
    made = render("static-pod", "--set", "socket_group=kube")
    assert made.code == 2
    assert "give its number" in made.err


@pytest.mark.parametrize(
    "words",
    [
        ["--program", "/run/user/0/bin/p"],
        ["--installed-as", "/run/user/0/config.json"],
        ["--set", "state_dir=/tmp/state"],
    ],
)
def test_path_that_the_unit_hides_is_refused(words: list[str], render: Render) -> None:
    made = render("systemd", *words)
    assert made.code == 2
    assert "sees no home folders" in made.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["systemd", "--program", "bin/p"], "--program"),
        (["systemd", "--user", "a b"], "--user"),
        (["static-pod", "--image", "a b"], "--image"),
        (["kubeadm-patch", "--file", "/etc/kubernetes/enc.yaml"], "folder of its own"),
        (["k3s", "--file", "enc.yaml"], "--file"),
        (["rke2", "--file", "/a b"], "--file"),
        (["encryption-config", "--name", "a:b"], "--name"),
        (["encryption-config", "--back-to", "aescbc"], "--merge"),
        (["k3s", "--set", "socket_file=unix:///@x"], "socket_file"),
    ],
)
def test_option_that_can_not_be_used_is_refused(
    words: list[str], says: str, render: Render
) -> None:
    made = render(*words)
    assert (made.code, made.out) == (2, "")
    assert says in made.err


def test_pod_asks_nothing_of_the_api_server_nor_of_dsm(render: Render) -> None:
    spec = render("static-pod").yaml["spec"]
    (container,) = spec["containers"]
    assert spec["hostNetwork"] is True
    assert spec["dnsPolicy"] == "Default"
    assert spec["automountServiceAccountToken"] is False
    assert "readinessProbe" not in container
    assert "startupProbe" not in container
    assert container["livenessProbe"]["exec"]["command"][1:3] == ["status", "--alive"]
    assert container["imagePullPolicy"] == "Never"
    assert (
        render("static-pod", "--pull").yaml["spec"]["containers"][0]["imagePullPolicy"]
        == "IfNotPresent"
    )


@pytest.mark.parametrize("variant", [(), ("--non-root",)])
def test_pod_has_no_power(variant: tuple[str, ...], render: Render) -> None:
    spec = render("static-pod", *variant).yaml["spec"]
    (container,) = spec["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["runAsNonRoot"] is bool(variant)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_mounts_of_a_pod_are_its_volumes(render: Render) -> None:
    settings = ("--set", "ca_file=/etc/dsm/ca.pem")
    for variant in ((), ("--non-root",)):
        spec = render("static-pod", *settings, *variant).yaml["spec"]
        volumes = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"]}
        (container,) = spec["containers"]
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert mounts == volumes
        # Its folder, so that a file which is replaced is seen.
        assert volumes["files-1"] == "/etc/dsm"
        read_only = {m["name"] for m in container["volumeMounts"] if m.get("readOnly")}
        assert read_only == {"config", "files-1"}
        for init in spec.get("initContainers", []):
            folders = [m["mountPath"] for m in init["volumeMounts"]]
            assert init["command"] == ["chown", "64535:64535", *folders]
            assert folders == [volumes["socket"], volumes["state"]]


def test_folder_of_the_config_is_mounted_once(render: Render) -> None:
    settings = ("--set", "ca_file=/etc/fortanix/ca.pem")
    spec = render("static-pod", *settings).yaml["spec"]
    paths = [volume["hostPath"] for volume in spec["volumes"]]
    assert {"path": "/etc/fortanix", "type": "Directory"} in paths
    assert not [path for path in paths if path["type"] == "File"]


def test_file_in_a_folder_of_everybody_is_refused_for_a_pod(render: Render) -> None:
    made = render("static-pod", "--set", "ca_file=/etc/ca.pem")
    assert made.code == 2
    assert "ca_file: its folder is mounted whole" in made.err
    assert render("systemd", "--set", "ca_file=/etc/ca.pem").code == 0


def test_encryption_config_names_the_socket_of_the_settings(render: Render) -> None:
    made = render(
        *("encryption-config", "--set", "socket_file=unix:///srv/k/s.sock"),
        *("--name", "hsm", "--resource", "secrets", "--resource", "*.apps"),
    ).yaml
    (rule,) = made["resources"]
    assert rule["resources"] == ["secrets", "*.apps"]
    assert rule["providers"] == [
        {
            "kms": {
                "apiVersion": "v2",
                "name": "hsm",
                "endpoint": "unix:///srv/k/s.sock",
                "timeout": "3s",
            }
        },
        {"identity": {}},
    ]


def test_rke1_has_the_whole_encryption_config(render: Render) -> None:
    api = render("rke1").yaml["services"]["kube-api"]
    alone = render("encryption-config").yaml
    assert api["secrets_encryption_config"]["custom_config"] == alone

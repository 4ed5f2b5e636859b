"""What kube-apiserver is told, in the way of each distribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from k8s_sdkms_plugin.render.encryption import EncryptionConfiguration, to_yaml
from k8s_sdkms_plugin.render.refusal import RenderRefused
from k8s_sdkms_plugin.version import NAME


if TYPE_CHECKING:
    from k8s_sdkms_plugin.render.site import Site


KUBEADM_FILE: Final = Path("/etc/kubernetes/encryption/config.yaml")
K3S_FILE: Final = Path("/etc/rancher/k3s/encryption.yaml")
RKE2_FILE: Final = Path("/etc/rancher/rke2/encryption.yaml")

_FLAG: Final = "encryption-provider-config"

_KUBEADM: Final = """\
# Made by `{name} render kubeadm-patch`. Put it as kube-apiserver+json.yaml
# into the folder that kubeadm's init, join or upgrade is given with --patches, on every
# control-plane node. The folders are mounted whole: a single file, or a socket, that is
# made anew would be another than the one in the container.
- op: add
  path: /spec/containers/0/command/-
  value: --{flag}={file}
- op: add
  path: /spec/containers/0/command/-
  value: --{flag}-automatic-reload=true
- op: add
  path: /spec/volumes/-
  value:
    name: kms-plugin
    hostPath: {{path: {socket_dir}, type: DirectoryOrCreate}}
- op: add
  path: /spec/volumes/-
  value:
    name: encryption
    hostPath: {{path: {folder}, type: Directory}}
- op: add
  path: /spec/containers/0/volumeMounts/-
  value: {{name: kms-plugin, mountPath: {socket_dir}, readOnly: true}}
- op: add
  path: /spec/containers/0/volumeMounts/-
  value: {{name: encryption, mountPath: {folder}, readOnly: true}}
"""

_RANCHER: Final = """\
# Made by `{name} render {command}`. Put it as 90-{name}.yaml
# into /etc/rancher/{command}/config.yaml.d on every server. The plugin is the systemd
# unit: a service of the host is there before the API server that waits for it.
# {whose} own encryption config, {when}, is
#   /var/lib/rancher/{command}/server/cred/encryption-config.json
# This takes its place, so that it must hold the keys of that one too:
#   {name} render encryption-config --merge THAT --output {file}
# Leave secrets-encryption as it is, and don't use `{command} secrets-encrypt` any more:
# it works on that file alone.
"""

_K3S: Final = """\
kube-apiserver-arg+:
  - {flag}={file}
  - {flag}-automatic-reload=true
"""

_RKE2: Final = """\
# A change of the file wants a restart of rke2-server.
kube-apiserver-arg+:
  - {flag}={file}
kube-apiserver-extra-mount+:
  - {socket_dir}:{socket_dir}
"""

_RKE1: Final = """\
# Made by `{name} render rke1`: a part of cluster.yml. The plugin runs on
# every control-plane node beside RKE's containers: as the systemd unit, or in Docker.
services:
  kube-api:
    extra_binds:
      - {socket_dir}:{socket_dir}
    secrets_encryption_config:
      enabled: true
      custom_config:
"""


def kubeadm_patch(site: Site, file: Path = KUBEADM_FILE) -> str:
    """Return a JSON patch, as YAML, of kubeadm's manifest of kube-apiserver.

    Args:
        site: The node.
        file: Where the encryption configuration is to stand.

    Raises:
        RenderRefused: Its folder can't be mounted.
    """
    folder = file.parent
    if folder in (Path("/"), Path("/etc"), Path("/etc/kubernetes")):
        raise RenderRefused(
            f"error: --file: {folder} holds more than the encryption config; give it a "
            f"folder of its own, such as {KUBEADM_FILE.parent}"
        )
    return _KUBEADM.format(
        name=NAME, flag=_FLAG, file=file, folder=folder, socket_dir=site.socket_dir
    )


def k3s(file: Path = K3S_FILE) -> str:
    """Return a file of k3s' config folder. kube-apiserver is k3s' own process there."""
    when = "with secrets-encryption: true"
    head = _RANCHER.format(name=NAME, command="k3s", whose="k3s'", when=when, file=file)
    return head + _K3S.format(flag=_FLAG, file=file)


def rke2(site: Site, file: Path = RKE2_FILE) -> str:
    """Return a file of RKE2's config folder."""
    when = "which it always makes"
    head = _RANCHER.format(
        name=NAME, command="rke2", whose="RKE2's", when=when, file=file
    )
    return head + _RKE2.format(flag=_FLAG, file=file, socket_dir=site.socket_dir)


def rke1(site: Site, configuration: EncryptionConfiguration) -> str:
    """Return a part of RKE's cluster.yml, the encryption configuration in it."""
    head = _RKE1.format(name=NAME, socket_dir=site.socket_dir)
    return head + to_yaml(configuration, indent=" " * 8)

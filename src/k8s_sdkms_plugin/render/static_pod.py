"""The static pod: for kubelets that start before kube-apiserver, as kubeadm's does.

Never a DaemonSet: that needs the API server which this plugin unlocks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from k8s_sdkms_plugin.render.refusal import RenderRefused
from k8s_sdkms_plugin.render.site import SHARED
from k8s_sdkms_plugin.version import NAME


if TYPE_CHECKING:
    from pathlib import Path

    from k8s_sdkms_plugin.render.site import Site


USER_ID: Final = 64535
"""User and group of the variant without root: outside of what hosts give to people."""

_FILES: Final = "files"

_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_GID: Final = re.compile(r"[0-9]{1,9}")

_TOP: Final = """\
# {name}.yaml: made by `{name} render static-pod`.
# It belongs into the kubelet's static pod folder, /etc/kubernetes/manifests, of every
# control-plane node. Never a DaemonSet: that needs the API server which waits for this.
{owner}\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: kube-system
  labels:
    app.kubernetes.io/name: {name}
    app.kubernetes.io/component: kms-plugin
    tier: control-plane
spec:
  # Neither the cluster's network is up yet, nor its DNS.
  hostNetwork: true
  dnsPolicy: Default
  priorityClassName: system-node-critical
  priority: 2000001000
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 10
  securityContext:
    seccompProfile:
      type: RuntimeDefault
"""

_OWNER: Final = """\
# It runs as user {uid}, who must own the config: chown {uid}:{uid} on
# {config}, and be able to read what that names. The
# init container gives it the folders; that one is root with a single capability.
"""

_INIT: Final = """\
  initContainers:
    - name: folders
      image: {image}
      imagePullPolicy: {pull}
      command: [chown, "{uid}:{gid}"{folders}]
      securityContext:
        runAsUser: 0
        runAsGroup: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN]
      resources:
        requests: {{cpu: 10m, memory: 16Mi}}
        limits: {{memory: 32Mi}}
      volumeMounts:
{mounts}\
"""

_CONTAINER: Final = """\
  containers:
    - name: {name}
      image: {image}
      # {why_pull}
      imagePullPolicy: {pull}
      args: [serve, --config, {config}]
      securityContext:
        # {why_user}
        runAsUser: {uid}
        runAsGroup: {gid}
        runAsNonRoot: {non_root}
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      # Whether the daemon answers at all, whatever it says of DSM: a restart heals no
      # outage, and loses what is in memory. There is no readiness probe: nothing
      # selects this pod, and Status tells kube-apiserver.
      livenessProbe:
        exec:
          command:
            - {name}
            - status
            - --alive
            - --timeout-s=10
            - --socket={socket}
        initialDelaySeconds: 10
        periodSeconds: 30
        timeoutSeconds: 20
        failureThreshold: 4
      resources:
        # No CPU limit: a throttled daemon is an outage. The memory holds 1,000 local
        # KEKs, 100 calls at once, and the probe beside them.
        requests: {{cpu: 50m, memory: 128Mi}}
        limits: {{memory: 384Mi}}
      volumeMounts:
{mounts}\
  volumes:
{volumes}"""

_WHY_NEVER: Final = "The image is loaded beforehand: a registry may need this cluster."
_WHY_PULLED: Final = "Load the image beforehand all the same: a registry may be away."
_WHY_ROOT: Final = "As the Go plugin's files need; of root's power nothing is left."
_WHY_USER: Final = "A user whom no host knows; kube-apiserver as root may connect."


def static_pod(site: Site, image: str, *, pull: bool, as_root: bool) -> str:
    """Return the manifest.

    Args:
        site: The node.
        image: The image, as the container runtime knows it.
        pull: Whether the kubelet may fetch an image that is missing.
        as_root: Whether it runs as root, as the Go plugin's folders and files need.

    Raises:
        RenderRefused: A name that can't be used in a pod.
    """
    if not _IMAGE.fullmatch(image):
        raise RenderRefused("error: --image: is no reference of an image")
    uid = 0 if as_root else USER_ID
    mounted = _mounted(site)
    # What the daemon writes in; the rest is the operator's.
    folders = {n: p for n, (p, _) in mounted.items() if n in ("socket", "state")}
    values = {
        "name": NAME,
        "image": image,
        "pull": "IfNotPresent" if pull else "Never",
        "uid": uid,
        "gid": _group(site, uid),
    }
    owner = "" if as_root else _OWNER.format(uid=uid, config=site.config_file)
    init = _INIT.format(
        **values,
        folders="".join(f", {path}" for path in folders.values()),
        mounts=_mounts(folders),
    )
    container = _CONTAINER.format(
        **values,
        why_pull=_WHY_PULLED if pull else _WHY_NEVER,
        why_user=_WHY_ROOT if as_root else _WHY_USER,
        non_root="false" if as_root else "true",
        config=site.config_file,
        socket=site.socket,
        mounts=_mounts({name: path for name, (path, _) in mounted.items()}),
        volumes=_volumes(mounted),
    )
    return _TOP.format(name=NAME, owner=owner) + ("" if as_root else init) + container


def _group(site: Site, uid: int) -> int:
    group = site.socket_group
    if group is None:
        return uid
    if not _GID.fullmatch(group):
        raise RenderRefused(
            f"error: socket_group: {group} is a name of the host's, which the image "
            "does not know; give its number"
        )
    # The process' own group: to give the socket to another takes a capability.
    return int(group)


def _mounted(site: Site) -> dict[str, tuple[Path, str]]:
    """Return what the daemon needs of the host: path and hostPath type by name."""
    folders = _folders_of_files(site)
    mounted = {"config": (site.config_file, "File")}
    if site.config_file.parent in folders:
        mounted = {}
    mounted["socket"] = (site.socket_dir, "DirectoryOrCreate")
    if site.state_dir is not None:
        mounted["state"] = (site.state_dir, "DirectoryOrCreate")
    names = (f"{_FILES}-{i}" for i in range(1, len(folders) + 1))
    return mounted | {
        name: (path, "Directory") for name, path in zip(names, folders, strict=True)
    }


def _folders_of_files(site: Site) -> list[Path]:
    """Return the folders of what the config names.

    The folders, so that a file which is replaced is seen: a mount of the file alone
    would go on showing the old one.
    """
    shared = [name for name, path in site.files if path.parent in SHARED]
    if shared:
        raise RenderRefused(
            *(
                f"error: {name}: its folder is mounted whole, and holds more; give it "
                "one of its own, such as /etc/fortanix"
                for name in shared
            )
        )
    return list(dict.fromkeys(path.parent for _, path in site.files))


def _mounts(paths: dict[str, Path]) -> str:
    lines = []
    for name, path in paths.items():
        lines += [f"        - name: {name}", f"          mountPath: {path}"]
        if name == "config" or name.startswith(_FILES):
            lines.append("          readOnly: true")
    return "".join(f"{line}\n" for line in lines)


def _volumes(mounted: dict[str, tuple[Path, str]]) -> str:
    return "".join(
        f"    - name: {name}\n      hostPath: {{path: {path}, type: {kind}}}\n"
        for name, (path, kind) in mounted.items()
    )

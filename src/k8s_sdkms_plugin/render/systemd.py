"""The systemd unit: the way for hosts whose kubelet needs kube-apiserver first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from k8s_sdkms_plugin.render.refusal import RenderRefused
from k8s_sdkms_plugin.render.site import ROOT_USER, Site, on_the_host, plain_name
from k8s_sdkms_plugin.version import NAME


if TYPE_CHECKING:
    from pathlib import Path


_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - to refuse them

_HEAD: Final = """\
# {name}.service: made by `{name} render systemd`.

[Unit]
Description=Kubernetes KMS v2 plugin for Fortanix DSM
# It binds its socket first and reaches DSM second: the network is not waited for.
After=local-fs.target
Before=kubelet.service k3s.service rke2-server.service docker.service
# Never give up: without the socket kube-apiserver reads no Secret.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} serve --config {config}
ExecReload=kill -HUP $MAINPID
# For HTTPS_PROXY and NO_PROXY; secrets have no variable.
EnvironmentFile=-/etc/default/{name}
Restart=always
RestartSec=2s
TimeoutStartSec=60s
TimeoutStopSec=10s
# The sign of life comes from the event loop; DSM has no part in it.
WatchdogSec=30s
OOMScoreAdjust=-999

"""

_SANDBOX: Final = """\
UMask=0077
LimitCORE=0
LimitNOFILE=4096
TasksMax=256

# Root without a capability can do no more than the owner of root's files.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
PrivateIPC=yes
PrivateMounts=yes
PrivateTmp=yes
PrivateUsers=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# It turns its own core dumps off{chown}.
SystemCallFilter=prlimit64 setrlimit{chown_calls}

[Install]
WantedBy=multi-user.target
"""


def unit(site: Site, program: Path, user: str = ROOT_USER) -> str:
    """Return the unit.

    Args:
        site: The node.
        program: Absolute path of the program.
        user: Whom it runs as. Root is what the Go plugin's files need.

    Raises:
        RenderRefused: A name can't be one of a user, or the unit hides a path.
    """
    _refuse_hidden(site, program)
    grouped = site.socket_group is not None
    head = _HEAD.format(name=NAME, program=program, config=site.config_file)
    sandbox = _SANDBOX.format(
        chown=", and gives the socket to its group" if grouped else "",
        chown_calls=" @chown" if grouped else "",
    )
    return head + "\n".join([*_identity(site, user), *_folders(site), sandbox])


def _refuse_hidden(site: Site, program: Path) -> None:
    files = (path for _, path in site.files)
    paths = (program, site.config_file, site.socket, site.state_dir, *files)
    hidden = [
        path
        for path in paths
        if path is not None and any(path.is_relative_to(h) for h in _HIDDEN)
    ]
    if hidden:
        raise RenderRefused(
            *(
                f"error: {path}: the unit sees no home folders and a /tmp of its own; "
                "move it to /opt, /etc or /var/lib"
                for path in hidden
            )
        )


def _identity(site: Site, user: str) -> list[str]:
    lines = [f"User={plain_name('--user', user)}"]
    # The process' own group: to give the socket to another takes a capability.
    if site.socket_group is not None:
        lines.append(f"Group={site.socket_group}")
    return lines


def _folders(site: Site) -> list[str]:
    """Return the lines that make the folders, or that let the daemon write in them."""
    lines = []
    runtime = on_the_host(site.socket_dir)
    if runtime.is_relative_to("/run"):
        mode = "0750" if site.socket_group is not None else "0700"
        lines += [
            f"RuntimeDirectory={runtime.relative_to('/run')}",
            f"RuntimeDirectoryMode={mode}",
            "# kube-apiserver's container holds on to the folder: a new one at each",
            "# restart would be another than the one that it sees.",
            "RuntimeDirectoryPreserve=yes",
        ]
    else:
        lines.append(f"ReadWritePaths={runtime}")
    state = site.state_dir
    if state is not None and state.is_relative_to("/var/lib"):
        lines.append(f"StateDirectory={state.relative_to('/var/lib')}")
        lines.append("StateDirectoryMode=0700")
    elif state is not None:
        lines.append(f"ReadWritePaths={state}")
    return lines

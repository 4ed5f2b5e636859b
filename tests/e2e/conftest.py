"""The daemon under a real kube-apiserver.

What is real here: kube-apiserver, built from its published Go modules, and Debian's
etcd, each a process on loopback ports; the daemon, started as a user starts it, with a
config file; its unix socket, gRPC, TLS and the REST calls behind it. DSM alone is our
emulator, in a process of its own. Nothing is patched, and no clock is: a test that
waits for kube-apiserver's probe (20 s, 60 s) or for its reload of a file (60 s) waits
as long as an operator would.

``scripts/e2e-setup`` makes what is needed; without it the tests are skipped, or, with
E2E_REQUIRED=1, fail. KUBE_VERSION chooses the version.

    scripts/e2e-setup && .venv/bin/pytest tests/e2e

All share one emulator. Each group of tests has its own daemon, with its own key, and
its own kube-apiserver, with its own etcd. The longest wait, for the reload, begins
before the first test and is over when the last one looks at it.

E2E_PLUGIN names another ``k8s-sdkms-plugin`` to test than the one of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest


# Tests are collected by path; their harness is imported by name.
sys.path.append(str(Path(__file__).parents[2]))

from tests.e2e.harness.etcd import Etcd
from tests.e2e.harness.kube import Kms, KubeApiServer
from tests.e2e.harness.plugin import Daemon, Emulator
from tests.e2e.harness.program import ROOT, Program
from tests.e2e.harness.writer import Writer


if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LOG_LINES = 60


@attrs.frozen
class Binaries:
    """The programs that are not ours."""

    etcd: Path
    kube_apiserver: Path


@attrs.frozen
class Cluster:
    """A kube-apiserver whose Secrets go through a daemon."""

    kube: KubeApiServer
    daemon: Daemon
    emulator: Emulator

    def key_id(self) -> str:
        """Return the key_id of a key that was never rotated (design section 4)."""
        return f"sdkms.v1:{self.emulator.kid(self.daemon.key_name)}"

    def close(self) -> None:
        """Stop both, kube-apiserver first."""
        self.kube.close()
        self.daemon.close()


@attrs.frozen
class Reloading:
    """A kube-apiserver whose encryption configuration has just been changed."""

    kube: KubeApiServer
    writer: Writer


@attrs.frozen
class Workshop:
    """Makes daemons on the one emulator, and API servers."""

    binaries: Binaries
    folder: Path
    emulator: Emulator

    def native_daemon(self, name: str, **settings: str) -> Daemon:
        """Make a daemon as new clusters configure it, with a fresh key of its name."""
        self.emulator.create_key(name)
        settings = {
            "ca_file": str(self.emulator.ca_file),
            "write_format": "native",
            **settings,
        }
        return Daemon(self.folder, f"{name}-daemon", self.emulator, name, **settings)

    def kube(self, name: str, *providers: Kms) -> KubeApiServer:
        """Make a kube-apiserver and its etcd, not yet started."""
        etcd = Etcd(self.binaries.etcd, self.folder, f"{name}-etcd")
        binary = self.binaries.kube_apiserver
        return KubeApiServer(binary, etcd, self.folder, name, *providers)

    def cluster(self, name: str) -> Cluster:
        """Make and start a kube-apiserver behind which stands a native daemon."""
        daemon = self.native_daemon(name)
        kube = self.kube(name, Kms("dsm", daemon.socket))
        made = Cluster(kube, daemon, self.emulator)
        try:
            daemon.start()
            kube.start()
        except BaseException:
            made.close()
            raise
        return made


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    return Binaries(
        etcd=_path_of(["scripts/e2e-setup", "etcd-path"]),
        kube_apiserver=_path_of(["scripts/kube-apiserver", "path"]),
    )


@pytest.fixture(scope="session")
def workshop(
    binaries: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("e2e")
    emulator = Emulator(folder)
    try:
        emulator.start()
        yield Workshop(binaries, folder, emulator)
    finally:
        # Whatever a failing fixture or test left behind ends too, the last first.
        for program in reversed(Program.every):
            program.close()


@pytest.fixture(scope="session")
def reloading(workshop: Workshop) -> Iterator[Reloading]:
    cluster = workshop.cluster("reload")
    kube, socket = cluster.kube, cluster.daemon.socket
    kube.create_namespace("reload")
    # The new provider has another name, so that etcd shows which configuration wrote.
    writer = Writer(kube, "reload", until="dsm-2", count=20)
    writer.start()
    kube.configure(Kms("dsm-2", socket), Kms("dsm", socket))
    yield Reloading(kube, writer)
    writer.stop()
    cluster.close()


@pytest.fixture(scope="session", autouse=True)
def _long_wait_begins_first(request: pytest.FixtureRequest) -> None:
    if any(_waits_long(item) for item in request.session.items):
        request.getfixturevalue("reloading")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_waits_long)


def _waits_long(item: pytest.Item) -> bool:
    return "reloading" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    for program in Program.every:
        program.mark()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    report = yield
    if report.failed:
        for program in Program.every:
            if text := program.new_output(LOG_LINES):
                report.sections.append((f"{program.log}", text))
    return report


def _path_of(command: list[str]) -> Path:
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        return Path(found.stdout.strip())
    why = f"{' '.join(command)}: nothing there; run scripts/e2e-setup"
    if os.environ.get("E2E_REQUIRED") == "1":
        pytest.fail(why)
    pytest.skip(why)

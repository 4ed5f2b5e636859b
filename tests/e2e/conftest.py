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
its own kube-apiserver, with its own etcd. The longest waits, for the reload and for an
outage of DSM, begin before the first test and are over when the last ones look at them.

E2E_PLUGIN names another ``k8s-sdkms-plugin`` to test than the one of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest


# Tests are collected by path; their harness is imported by name.
sys.path.append(str(Path(__file__).parents[2]))

from tests.e2e.harness.etcd import Etcd
from tests.e2e.harness.kube import Kms, KubeApiServer
from tests.e2e.harness.outage import Outage, Party, User
from tests.e2e.harness.plugin import Daemon, Emulator
from tests.e2e.harness.program import ROOT, Program
from tests.e2e.harness.relay import Relay
from tests.e2e.harness.writer import Writer


if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

LOG_LINES = 60

# Fixtures in which something takes long, the longest last; their tests come last.
LONG_WAITS = ("reloading", "outage")

# The settings of each daemon that goes through the outage.
OUTAGE = {
    "local-kek": {},
    "direct": {"protection": "direct"},
    "go-plugin": {"write_format": "go-plugin"},
    "restarted-before": {},
    "restarted-within": {},
    "restarted-within-direct": {"protection": "direct"},
    "restarted-within-go-plugin": {"write_format": "go-plugin"},
    "fail": {"on_outage": "fail"},
}
OUTAGE_S = 240


@attrs.frozen
class Binaries:
    """The programs that are not ours."""

    etcd: Path
    etcdctl: Path
    kube_apiserver: Path
    kubectl: Path


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
        return self.daemon(name, name, **{"write_format": "native", **settings})

    def daemon(self, name: str, key_name: str, **settings: str) -> Daemon:
        """Make a daemon that uses a key which is there already."""
        settings = {"ca_file": str(self.emulator.ca_file), **settings}
        folder, emulator = self.folder, self.emulator
        return Daemon(folder, f"{name}-daemon", emulator, key_name, **settings)

    def go_plugin_daemon(self, name: str, key_name: str) -> Daemon:
        """Make a daemon whose config has the Go plugin's fields alone."""
        daemon = Daemon(self.folder, f"{name}-daemon", self.emulator, key_name)
        # What the Go plugin trusts, and we do without ca_file.
        daemon.environ["SSL_CERT_FILE"] = str(self.emulator.ca_file)
        return daemon

    def etcd(self, name: str) -> Etcd:
        """Make an etcd, not yet started."""
        return Etcd(self.binaries.etcd, self.folder, f"{name}-etcd")

    def kube(
        self,
        name: str,
        *providers: Kms,
        etcd: Etcd | None = None,
        etcd_prefix: str = "/registry",
    ) -> KubeApiServer:
        """Make a kube-apiserver, not yet started; without an etcd, it gets its own."""
        return KubeApiServer(
            self.binaries.kube_apiserver,
            etcd or self.etcd(name),
            self.folder,
            name,
            *providers,
            etcd_prefix=etcd_prefix,
        )

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
        etcdctl=_path_of(["scripts/e2e-setup", "etcdctl-path"]),
        kube_apiserver=_path_of(["scripts/kube-apiserver", "path"]),
        kubectl=_path_of(["scripts/kubectl", "path"]),
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


@pytest.fixture(scope="session")
def outage(workshop: Workshop) -> Iterator[Outage]:
    way_to_dsm = Relay(workshop.emulator.port)
    way_to_dsm.open()
    etcd = workshop.etcd("outage")
    etcd.start()

    def party(name: str) -> Party:
        settings = {"sdkms_endpoint": f"https://127.0.0.1:{way_to_dsm.port}"}
        if within := name.startswith("restarted-within"):
            state_dir = workshop.folder / f"{name}-state"
            state_dir.mkdir(mode=0o700)
            settings["state_dir"] = str(state_dir)
        daemon = workshop.native_daemon(name, **settings, **OUTAGE[name])
        kms = Kms("dsm", daemon.socket)
        kube = workshop.kube(name, kms, etcd=etcd, etcd_prefix=f"/{name}")
        daemon.start()
        kube.start()
        return Party(
            name,
            daemon,
            kube,
            User(kube),
            fails=name == "fail",
            restarted_within=within,
        )

    # No more at once: each start keeps a core busy for some seconds.
    with ThreadPoolExecutor(max_workers=2) as pool:
        parties = list(pool.map(party, OUTAGE))
    made = Outage(way_to_dsm, parties, least_s=OUTAGE_S)
    for each in parties:
        each.user.start()
    restarted = made.parties["restarted-before"].daemon
    restarted.restart()
    restarted.await_state("ready", within_s=30)
    made.start()
    yield made
    made.close()
    etcd.close()


@pytest.fixture(scope="session", autouse=True)
def _long_waits_begin_first(request: pytest.FixtureRequest) -> None:
    for name in LONG_WAITS:
        if any(name in _fixtures(item) for item in request.session.items):
            request.getfixturevalue(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_longest_wait)


def _longest_wait(item: pytest.Item) -> int:
    """Return 0 for a test that waits for none, and the more the longer it waits."""
    used = [name in _fixtures(item) for name in LONG_WAITS]
    return max((i for i, uses in enumerate(used, start=1) if uses), default=0)


def _fixtures(item: pytest.Item) -> Sequence[str]:
    names: Sequence[str] = getattr(item, "fixturenames", ())
    return names


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

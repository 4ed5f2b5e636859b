"""``verify`` reaches a real etcd: by TLS with a login, and by a unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
import trustme
from tests.e2e.harness.plugin import Told, told
from tests.e2e.harness.program import Program, free_port

from k8s_sdkms_plugin.verify.messages import RANGE_METHOD, RangeRequest


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.e2e.conftest import Binaries


class GuardedEtcd(Program):
    """An etcd that only clients with a certificate reach, or that has a socket."""

    def __init__(
        self, binary: Path, folder: Path, url: str, options: Sequence[str] = ()
    ) -> None:
        super().__init__("guarded-etcd", folder)
        self.url = url
        self._command: list[str | Path] = [
            binary,
            f"--data-dir={folder / 'data'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
            "--unsafe-no-fsync",
            "--logger=zap",
            *options,
        ]

    def start(self, *login: str | Path) -> None:
        """Start it and wait until it answers whoever logs in so."""
        self.run(self._command)

        def answers() -> bool:
            done = self.verify(*login)
            assert "nothing is stored there" in done.err, done.err
            return True

        self.await_true(answers, within_s=30, what="it answers")

    def verify(self, *login: str | Path) -> Told:
        """Run ``verify`` on it."""
        return told("verify", "--endpoints", self.url, *login)


@pytest.fixture
def etcd_by_tls(binaries: Binaries, tmp_path: Path) -> Iterator[GuardedEtcd]:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("verify@example.com")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    for name, made in (("server", server), ("client", client)):
        made.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        made.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
    options = (
        f"--cert-file={tmp_path / 'server.crt'}",
        f"--key-file={tmp_path / 'server.key'}",
        f"--trusted-ca-file={tmp_path / 'ca.crt'}",
        "--client-cert-auth",
    )
    url = f"https://127.0.0.1:{free_port()}"
    etcd = GuardedEtcd(binaries.etcd, tmp_path, url, options)
    yield etcd
    etcd.kill()


def test_certificate_is_needed_and_enough(
    etcd_by_tls: GuardedEtcd, tmp_path: Path
) -> None:
    trust = ("--cacert", tmp_path / "ca.crt")
    login = ("--cert", tmp_path / "client.crt", "--key", tmp_path / "client.key")

    etcd_by_tls.start(*trust, *login)

    assert etcd_by_tls.verify(*trust, *login).code == 1
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(str(tmp_path / "other.crt"))
    for words in (trust, ("--cacert", tmp_path / "other.crt", *login)):
        refused = etcd_by_tls.verify(*words)
        assert refused.code == 2
        assert refused.err.startswith("error: etcd at 127.0.0.1:")
        assert len(refused.err.splitlines()) == 1


def test_socket_is_reached(binaries: Binaries, tmp_path: Path) -> None:
    # etcd's way to name one: a socket of that name in its folder.
    name = f"localhost:{free_port()}"
    path = tmp_path / name
    etcd = GuardedEtcd(binaries.etcd, tmp_path, f"unix://{name}")
    etcd.url = f"unix://{path}"
    try:
        etcd.start()
        with grpc.insecure_channel(f"unix:{path}") as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            ask = channel.unary_unary(RANGE_METHOD)
            assert ask(RangeRequest(key=b"/a").SerializeToString(), timeout=10)
        assert etcd.verify().code == 1
    finally:
        etcd.kill()

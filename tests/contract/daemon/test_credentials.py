"""The daemon's credential: from a file, replaced while it runs, refused and mended."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from tests.unit.dsm_emulator.proofs import issue

from dsm_emulator import EmulatorServer
from dsm_emulator.credentials import AuthType, Credential
from k8s_sdkms_plugin.cli import main
from k8s_sdkms_plugin.state_dir import REFUSALS_FILE


if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tests.contract.daemon.support import Daemon, Lab


AUTH = "/sys/v1/session/auth"


def key_file(lab: Lab, content: str) -> Path:
    path = lab.folder / "api-key"
    fresh = lab.folder / "api-key.new"
    fresh.write_text(content)
    fresh.chmod(0o600)
    fresh.rename(path)
    return path


def certificate_files(lab: Lab, days: float) -> dict[str, Any]:
    """Give an app a certificate that ends in *days*, and write it down."""
    issued = issue("node", days=days, from_s=time.time())
    pem = {
        "client_cert_file": issued.pem.encode(),
        "client_key_file": issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    lab.dsm.add_app(
        "node",
        groups=lab.demo.app.groups,
        credential=Credential(AuthType.CERTIFICATE, certificate_der=issued.der),
    )
    for name, content in pem.items():
        path = lab.folder / name
        path.touch(0o600)
        path.write_bytes(content)
    return {name: str(lab.folder / name) for name in pem}


async def round_trip(lab: Lab, daemon: Daemon) -> None:
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed)
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed


async def test_a_replaced_key_file_is_in_use_after_a_signal(lab: Lab) -> None:
    path = key_file(lab, lab.demo.api_key)
    daemon = lab.start(api_key=None, api_key_file=str(path), protection="direct")
    await daemon.await_ok()
    await round_trip(lab, daemon)
    key_file(lab, lab.dsm.reset_secret(lab.demo.app, migration_s=60))
    daemon.hang_up()
    line = daemon.await_line(event="credential replaced")
    assert line["setting"] == "api_key_file"
    await round_trip(lab, daemon)
    assert lab.dsm.journal.failed_logins.total() == 0


async def test_an_absent_key_file_is_said_and_heals(lab: Lab) -> None:
    daemon = lab.start(api_key=None, api_key_file=str(lab.folder / "api-key"))
    failure = await daemon.await_failure("CREDENTIAL-REFUSED")
    assert "api_key_file: " in failure.text
    assert "No such file" in failure.text
    assert lab.dsm.journal.count(AUTH) == 0
    key_file(lab, lab.demo.api_key)
    daemon.hang_up()
    await daemon.await_ok()


async def test_a_client_certificate_serves_and_its_end_is_told_of(lab: Lab) -> None:
    files = certificate_files(lab, days=20)
    daemon = lab.start(api_key=None, protection="direct", **files)
    await daemon.await_ok()
    await round_trip(lab, daemon)
    line = daemon.await_line(event="credential", level="warning")
    assert line["setting"] == "client_cert_file"
    assert line["what"].startswith("ends at ")


def test_check_warns_of_a_certificate_that_ends(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    files = certificate_files(lab, days=20)
    assert (
        main(["check", "--json", "-config", str(lab.config(api_key=None, **files))])
        == 0
    )
    items = json.loads(capsys.readouterr().out)["items"]
    (found,) = [item for item in items if item["about"] == "client_cert_file"]
    assert found["level"] == "warning"
    assert found["found"].startswith("ends at ")
    assert found["remedy"]


async def test_refusals_outlive_a_daemon_that_is_killed(lab: Lab) -> None:
    good, lab.demo.app.secret = lab.demo.app.secret, "another"
    config = lab.config(api_key=None, api_key_file=str(key_file(lab, lab.demo.api_key)))
    lab.demo.app.secret = good
    key_file(lab, lab.demo.api_key[:-8] + "AAAAAAA=")
    app = lab.demo.app.app_id
    for _ in range(3):
        daemon = lab.launch(config).await_socket()
        failure = await daemon.await_failure("CREDENTIAL-REFUSED")
        assert "SIGHUP" in failure.text
        daemon.kill()
    assert lab.dsm.journal.failed_logins[app] == 1
    assert (lab.folder / REFUSALS_FILE).is_file()
    key_file(lab, lab.demo.api_key)
    await lab.launch(config).await_socket().await_ok()
    assert lab.dsm.journal.failed_logins[app] == 1


async def test_a_second_endpoint_takes_over_and_status_stays_ok(lab: Lab) -> None:
    with EmulatorServer(lab.dsm, authority=lab.server.authority) as second:
        daemon = lab.start(sdkms_endpoints=[second.url], protection="direct")
        status = await daemon.await_ok()
        await round_trip(lab, daemon)
        lab.server.stop()
        await round_trip(lab, daemon)
        line = daemon.await_line(event="endpoint left")
        assert line["endpoint"] in lab.server.url
        daemon.hang_up()
        async with daemon.client() as client:
            assert (await client.status()).key_id == status.key_id
        lab.server.start()

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.daemon.support import WITHIN_S, Daemon, Lab, eventually, run

from k8s_sdkms_plugin.metrics import key_id_hash


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


P = "k8s_sdkms_plugin_"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as made:
        yield made


def free_address() -> str:
    """Return a loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def get(address: str, path: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=WITHIN_S) as client:
        return client.get(f"http://{address}{path}")


def read(address: str) -> dict[str, float]:
    """Return the samples of `/metrics`, by name and values of the sorted labels."""
    families = text_string_to_metric_families(get(address, "/metrics").text)
    return {
        " ".join(
            [s.name.removeprefix(P), *(v for _, v in sorted(s.labels.items()))]
        ): s.value
        for family in families
        for s in family.samples
    }


def listening(lab: Lab, **changes: Any) -> tuple[Daemon, str]:
    """Return a daemon that listens, and where."""
    address = free_address()
    daemon = lab.start(listen=address, **changes)
    line = daemon.await_line(event="listening")
    assert line["address"] == address
    return daemon, address


async def test_daemon_tells_what_it_did(lab: Lab) -> None:
    daemon, address = listening(lab)
    key_id = (await daemon.await_ok()).key_id
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed)
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
    eventually(lambda: read(address)["kms_calls_total OK Decrypt"] == 1, "it counts")
    samples = read(address)
    assert samples["state ready"] == 1
    assert samples[f"key_id_info {key_id_hash(key_id)}"] == 1
    assert samples["local_keks"] == 1
    assert samples["kms_calls_total OK Encrypt"] == 1
    assert samples["kms_calls_total OK Status"] >= 1
    assert samples["dsm_calls_total OK login"] == 1
    assert samples["dsm_calls_total OK encrypt"] >= 1
    assert samples["dsm_call_duration_seconds_sum encrypt"] > 0
    assert samples["log_lines_dropped_total"] == 0
    assert samples["defects_total"] == 0
    assert samples["last_good_look_timestamp_seconds"] > 1.7e9
    assert (get(address, "/readyz").text, get(address, "/livez").text) == ("ok", "ok")
    page = get(address, "/metrics").text
    assert not [secret for secret in lab._secrets if secret in page]
    told = run("status", "--config", daemon.config, "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert (answer["state"], answer["key_id"]) == ("ready", key_id)
    assert answer["local_keks"] == 1
    assert daemon.stop() == 0
    told = run("status", "--config", daemon.config)
    assert told.returncode == 1
    assert b"can't be opened (No such file or directory)" in told.stdout


async def test_daemon_that_dsm_refuses_is_alive_and_not_ready(lab: Lab) -> None:
    good, api_key = lab.demo.app.secret, lab.demo.api_key
    lab.demo.app.secret = "another"
    daemon, address = listening(lab, api_key=api_key)
    failure = await daemon.await_failure("CREDENTIAL-REFUSED")
    daemon.await_line(event="standing", code="CREDENTIAL-REFUSED")
    ready = get(address, "/readyz")
    assert (ready.status_code, ready.text) == (503, failure.text)
    assert get(address, "/livez").text == "ok"
    samples = read(address)
    assert samples["trouble_info CREDENTIAL-REFUSED"] == 1
    assert samples["dsm_calls_total CREDENTIAL-REFUSED login"] >= 1
    told = run("status", "--config", daemon.config)
    assert told.returncode == 1
    assert b"state          starting, CREDENTIAL-REFUSED" in told.stdout
    lab.demo.app.secret = good
    daemon.hang_up()
    await daemon.await_ok()
    assert get(address, "/readyz").status_code == 200


async def test_daemon_serves_though_its_port_is_taken(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = lab.start(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        await daemon.await_ok()
        line = daemon.await_line(event="not listening")
        assert line["cause"] == "Address already in use"
        assert daemon.stop() == 0
    assert len(daemon.lines(event="not listening")) == 1


def test_daemon_without_a_listener_does_without_its_libraries() -> None:
    script = (
        "import k8s_sdkms_plugin.daemon, json, sys; print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    )
    assert not {"aiohttp.web", "prometheus_client"} & {*json.loads(done.stdout)}

"""What is written and read: both formats, beside the Go plugin, over a rotation."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from tests.contract.daemon.support import DECRYPT, INFO, KEY_NAME, Lab, one_line_problem

from adapters_grpc.client import CallFailed


if TYPE_CHECKING:
    from tests.contract.daemon.support import Daemon


def go_plugin_blob(answer: dict[str, Any]) -> bytes:
    """Return what the Go plugin makes of DSM's answer, field by field."""
    text = [b"gVersion\x01", b"cKIDx$", answer["kid"].encode()]
    parts = [("Cipher", "cipher"), ("IV", "iv"), ("Tag", "tag")]
    coded = [cbor2.dumps(name) + cbor2.dumps(answer[key]) for name, key in parts]
    return b"\xa5" + b"".join(text + coded)


def hash_of(lab: Lab, endpoint: str | None = None) -> str:
    """Return the Go plugin's key_id for the lab's config."""
    whole = (endpoint or lab.server.url) + KEY_NAME
    return hashlib.sha256(whole.encode()).hexdigest()


async def refused(daemon: Daemon, stored: bytes, key_id: str) -> str:
    """Return the text with which Decrypt fails."""
    async with daemon.client() as client:
        with pytest.raises(CallFailed) as caught:
            await client.decrypt(stored, key_id)
    assert one_line_problem(caught.value.text) is None
    return caught.value.text


@pytest.mark.parametrize(
    ("protection", "version"), [("local-kek", 3), ("direct", 2), (None, 3)]
)
async def test_native_seed_is_bound_to_its_key_id(
    lab: Lab, protection: str | None, version: int
) -> None:
    daemon = lab.start(protection=protection)
    status = await daemon.await_ok()
    assert (status.version, status.healthz) == ("v2", "ok")
    assert status.key_id == f"sdkms.v1:{lab.demo.key.kid}"
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed, uid="u-encrypt")
        assert sealed.key_id == status.key_id
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
    fields = cbor2.loads(sealed.ciphertext)
    assert (fields["Version"], fields["KID"]) == (version, lab.demo.key.kid)
    assert seed not in sealed.ciphertext
    assert daemon.await_line(event="kms call", method="Encrypt")["uid"] == "u-encrypt"
    text = await refused(daemon, sealed.ciphertext, f"{status.key_id}:{'0' * 8}")
    assert text.startswith("SEALED-SEED-NOT-AUTHENTIC")


async def test_go_plugin_config_writes_and_reads_what_the_go_plugin_does(
    lab: Lab,
) -> None:
    # Its five fields, and the CA that a test needs.
    daemon = lab.start(write_format=None, sdkms_endpoint=f"{lab.server.url}/")
    warnings = daemon.lines(event="config")
    assert [(w["level"], w["field"]) for w in warnings] == [("warning", "write_format")]
    status = await daemon.await_ok()
    key_id = hash_of(lab, f"{lab.server.url}/")
    assert (status.version, status.key_id) == ("v2beta1", key_id)
    seed, old = lab.seed(), lab.seed()
    stored = go_plugin_blob(lab.encrypt_as_go_plugin(old))
    async with daemon.client() as client:
        assert await client.decrypt(stored, key_id) == old
        sealed = await client.encrypt(seed)
        assert sealed.key_id == key_id
        assert await client.decrypt(sealed.ciphertext, key_id) == seed
    names = {"KID": "kid", "Cipher": "cipher", "IV": "iv", "Tag": "tag"}
    fields = cbor2.loads(sealed.ciphertext)
    assert fields["Version"] == 1
    assert sealed.ciphertext == go_plugin_blob({k: fields[n] for n, k in names.items()})
    with lab.rest() as client_of_dsm:
        body = {
            "key": {"kid": fields["KID"]},
            "alg": "AES",
            "mode": "GCM",
            **{
                key: base64.b64encode(fields[name]).decode()
                for name, key in names.items()
                if key != "kid"
            },
        }
        answer = client_of_dsm.post(DECRYPT, json=body).raise_for_status().json()
    assert base64.b64decode(answer["plain"]) == seed


async def test_native_daemon_reads_go_plugin_seeds_of_this_and_former_configs(
    lab: Lab,
) -> None:
    former, foreign = hash_of(lab, "https://former.example.com"), "0" * 64
    daemon = lab.start(accept_key_ids=[former])
    await daemon.await_ok()
    seed = lab.seed()
    stored = go_plugin_blob(lab.encrypt_as_go_plugin(seed))
    async with daemon.client() as client:
        for key_id in (hash_of(lab), former):
            assert await client.decrypt(stored, key_id) == seed
    decrypts = lab.dsm.journal.count(DECRYPT)
    text = await refused(daemon, stored, foreign)
    assert text.startswith("KEY-ID-NOT-ACCEPTED")
    assert foreign in text
    assert "accept_key_ids" in text
    assert lab.dsm.journal.count(DECRYPT) == decrypts


async def test_rotation_gives_a_new_key_id_and_old_seeds_open(lab: Lab) -> None:
    daemon = lab.start()
    before = await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client() as client:
        old = await client.encrypt(seed)
        new_key = lab.dsm.rekey(KEY_NAME)
        daemon.hang_up()
        daemon.await_line(event="standing", state="ready", kid=new_key.kid)
        after = await client.status()
        assert after.key_id == f"sdkms.v1:{new_key.kid}:{lab.demo.key.kid}"
        assert after.key_id != before.key_id
        sealed = await client.encrypt(seed)
        assert sealed.key_id == after.key_id
        assert cbor2.loads(sealed.ciphertext)["KID"] == new_key.kid
        for stored in (old, sealed):
            assert await client.decrypt(stored.ciphertext, stored.key_id) == seed


async def test_rotation_keeps_the_go_plugins_key_id(lab: Lab) -> None:
    daemon = lab.start(write_format="go-plugin", api_version="v2")
    before = await daemon.await_ok()
    assert (before.version, before.key_id) == ("v2", hash_of(lab))
    seed = lab.seed()
    async with daemon.client() as client:
        old = await client.encrypt(seed)
        new_key = lab.dsm.rekey(KEY_NAME)
        daemon.hang_up()
        daemon.await_line(event="standing", state="ready", kid=new_key.kid)
        assert (await client.status()).key_id == before.key_id
        assert cbor2.loads((await client.encrypt(seed)).ciphertext)["KID"] == (
            new_key.kid
        )
        assert await client.decrypt(old.ciphertext, old.key_id) == seed


async def test_key_named_by_its_uuid_stays_after_a_rotation(lab: Lab) -> None:
    daemon = lab.start(key_name=None, key_id=lab.demo.key.kid)
    before = await daemon.await_ok()
    looks = lab.dsm.journal.count(INFO)
    lab.dsm.rekey(KEY_NAME)
    daemon.hang_up()
    daemon.await_line(event="standing", state="ready")
    async with daemon.client() as client:
        sealed = await client.encrypt(lab.seed())
    assert cbor2.loads(sealed.ciphertext)["KID"] == lab.demo.key.kid
    assert before.key_id == f"sdkms.v1:{lab.demo.key.kid}"
    assert lab.dsm.journal.count(INFO) >= looks

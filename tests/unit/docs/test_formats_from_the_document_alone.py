from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.unit.docs import independent
from tests.unit.docs.independent import Seed
from tests.unit.docs.support import vectors


OURS = {
    "adapters_dsm",
    "adapters_grpc",
    "dsm_emulator",
    "k8s_sdkms_plugin",
    "kms_conformance",
    "kms_core",
    "cbor2",
}
BY_DSM = ["version 1", "version 2", "version 2 after a rotation"]
BY_LOCAL_KEK = ["version 3", "version 3 after a rotation"]
SEALED = [*BY_DSM, *BY_LOCAL_KEK]
REFUSED = [
    refused
    for mark in ("refused", "refused, version 3")
    for refused in vectors(mark)[0].items()
]


def sealed_vector(mark: str) -> dict[str, str]:
    (vector,) = vectors(mark)
    return vector


def part(vector: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def as_seed(vector: dict[str, str]) -> Seed:
    names = ["cipher", "iv", "tag", *(["salt", "inner"] if "salt" in vector else [])]
    parts = (part(vector, name) for name in names)
    return Seed(int(vector["version"]), vector["kid"], *parts)


@pytest.mark.parametrize("name", [Path(__file__).name, "independent.py", "support.py"])
def test_nothing_of_ours_and_no_cbor_library_is_used_here(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / name).read_text())
    imported = {
        module.partition(".")[0]
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "attrs" in imported or "pytest" in imported
    assert not imported & OURS


@pytest.mark.parametrize("mark", SEALED)
def test_sealed_seed_opens_with_the_key_alone(mark: str) -> None:
    vector = sealed_vector(mark)
    sealed = independent.read(part(vector, "sealed"))

    opened = independent.open_sealed(part(vector, "kek"), sealed, vector["key_id"])

    assert opened == part(vector, "seed")
    assert sealed.kid == vector["kid"]


@pytest.mark.parametrize("mark", BY_DSM)
def test_sealed_seed_can_be_made_byte_for_byte(mark: str) -> None:
    vector = sealed_vector(mark)
    version, iv = int(vector["version"]), part(vector, "iv")
    extra = independent.aad(version, vector["key_id"])
    assert (extra or b"").hex() == vector["aad"]

    cipher, tag = independent.seal(part(vector, "kek"), part(vector, "seed"), iv, extra)

    assert (cipher.hex(), tag.hex()) == (vector["cipher"], vector["tag"])
    made = independent.write(Seed(version, vector["kid"], cipher, iv, tag))
    assert made.hex() == vector["sealed"]
    assert len(made) == 130


@pytest.mark.parametrize("mark", BY_LOCAL_KEK)
def test_seed_under_a_local_kek_can_be_made_byte_for_byte(mark: str) -> None:
    vector = sealed_vector(mark)
    key_id, iv = vector["key_id"], part(vector, "iv")
    extra = independent.aad(3, key_id)
    assert (extra or b"").hex() == vector["aad"]

    cipher, tag = independent.seal(
        part(vector, "kek"), part(vector, "local_kek"), iv, extra
    )

    assert (cipher.hex(), tag.hex()) == (vector["cipher"], vector["tag"])
    salt = part(vector, "salt")
    key, nonce = independent.derived(part(vector, "local_kek"), salt)
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["nonce"])
    wrapped = Seed(3, vector["kid"], cipher, iv, tag, salt)
    inner_aad = independent.aad_under_local_kek(wrapped, key_id)
    assert inner_aad.hex() == vector["inner_aad"]
    inner = b"".join(independent.seal(key, part(vector, "seed"), nonce, inner_aad))
    assert inner.hex() == vector["inner"]
    made = independent.write(evolve(wrapped, inner=inner))
    assert made.hex() == vector["sealed"]
    assert len(made) == 224


@pytest.mark.parametrize("version", ["version 2", "version 3"])
def test_native_seed_opens_under_no_other_key_id(version: str) -> None:
    vector = sealed_vector(version)
    other = sealed_vector(f"{version} after a rotation")["key_id"]

    with pytest.raises(InvalidTag):
        independent.open_sealed(part(vector, "kek"), as_seed(vector), other)


@pytest.mark.parametrize("name", ["kid", "cipher", "iv", "tag", "salt", "inner"])
def test_no_field_of_version_3_can_be_changed(name: str) -> None:
    vector = sealed_vector("version 3")
    sealed, key_id = as_seed(vector), vector["key_id"]
    key, nonce = part(vector, "key"), part(vector, "nonce")
    changes: dict[str, Any] = {"kid": sealed.kid[:-1] + "3"}
    if name != "kid":
        value = part(vector, name)
        changes = {name: value[:-1] + bytes([value[-1] ^ 1])}
    changed = evolve(sealed, **changes)

    with pytest.raises(InvalidTag):
        independent.open_sealed(part(vector, "kek"), changed, key_id)
    if name != "salt":
        # The inner layer alone finds it as well.
        extra = independent.aad_under_local_kek(changed, key_id)
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(nonce, changed.inner or b"", extra)


def test_wrapped_local_kek_is_no_seed_and_a_seed_is_no_local_kek() -> None:
    wrapped, seed = sealed_vector("version 3"), sealed_vector("version 2")
    key_id, kek = wrapped["key_id"], part(wrapped, "kek")
    assert seed["key_id"] == key_id

    with pytest.raises(InvalidTag):
        independent.unseal(kek, as_seed(wrapped), independent.aad(2, key_id))
    with pytest.raises(InvalidTag):
        independent.unseal(kek, as_seed(seed), independent.aad(3, key_id))


@pytest.mark.parametrize("vector", vectors("encoding"))
def test_encoding_both_ways(vector: dict[str, str]) -> None:
    sealed = bytes.fromhex(vector["sealed"])
    assert independent.write(as_seed(vector)) == sealed
    assert independent.read(sealed) == as_seed(vector)


@pytest.mark.parametrize(("what", "sealed"), REFUSED)
def test_what_must_be_refused_is_refused(what: str, sealed: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - one for every reason
        independent.read(bytes.fromhex(sealed))


def test_native_key_ids() -> None:
    (vector,) = vectors("native key_ids")
    assert vector["first"] == f"sdkms.v1:{vector['kid']}"
    assert vector["rotated"] == f"sdkms.v1:{vector['kid']}:{vector['replaced']}"


@pytest.mark.parametrize("vector", vectors("go-plugin key_ids"))
def test_go_plugin_key_ids(vector: dict[str, str]) -> None:
    found = independent.go_plugin_key_id(
        vector["endpoint"], vector.get("uuid", ""), vector.get("key_name", "")
    )
    assert found == vector["key_id"]


def test_stored_object_is_read_with_the_key_in_dsm_alone() -> None:
    (vector,) = vectors("stored object")
    of_seed = sealed_vector("version 2")
    value = bytes.fromhex(vector["value"])
    prefix = b"k8s:enc:kms:v2:dsm:"
    assert value.startswith(prefix)
    fields = independent.protobuf_fields(value.removeprefix(prefix))
    encrypted, key_id, source = fields[1], fields[2], fields[3]
    assert isinstance(encrypted, bytes)
    assert isinstance(key_id, bytes)
    assert isinstance(source, bytes)
    assert set(fields) == {1, 2, 3, 5}
    assert fields[5] == 1
    assert key_id.decode() == of_seed["key_id"]

    sealed = independent.read(source)
    seed = independent.open_sealed(part(of_seed, "kek"), sealed, key_id.decode())
    found = independent.decrypt_object(encrypted, seed, vector["etcd_key"])

    assert found.decode() == vector["plaintext"]

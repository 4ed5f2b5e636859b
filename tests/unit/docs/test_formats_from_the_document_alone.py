from __future__ import annotations

import ast
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
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
SEALED = ["version 1", "version 2", "version 2 after a rotation"]


def sealed_vector(mark: str) -> dict[str, str]:
    (vector,) = vectors(mark)
    return vector


def as_seed(vector: dict[str, str]) -> Seed:
    return Seed(
        int(vector["version"]),
        vector["kid"],
        bytes.fromhex(vector["cipher"]),
        bytes.fromhex(vector["iv"]),
        bytes.fromhex(vector["tag"]),
    )


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
    sealed = independent.read(bytes.fromhex(vector["sealed"]))
    extra = independent.aad(sealed.version, vector["key_id"])

    opened = independent.unseal(bytes.fromhex(vector["kek"]), sealed, extra)

    assert opened == bytes.fromhex(vector["seed"])
    assert sealed.kid == vector["kid"]


@pytest.mark.parametrize("mark", SEALED)
def test_sealed_seed_can_be_made_byte_for_byte(mark: str) -> None:
    vector = sealed_vector(mark)
    version, iv = int(vector["version"]), bytes.fromhex(vector["iv"])
    extra = independent.aad(version, vector["key_id"])
    assert (extra or b"").hex() == vector["aad"]

    cipher, tag = independent.seal(
        bytes.fromhex(vector["kek"]), bytes.fromhex(vector["seed"]), iv, extra
    )

    assert (cipher.hex(), tag.hex()) == (vector["cipher"], vector["tag"])
    made = independent.write(Seed(version, vector["kid"], cipher, iv, tag))
    assert made.hex() == vector["sealed"]
    assert len(made) == 130


def test_version_2_opens_under_no_other_key_id() -> None:
    vector = sealed_vector("version 2")
    other = sealed_vector("version 2 after a rotation")["key_id"]
    sealed = as_seed(vector)

    with pytest.raises(InvalidTag):
        independent.unseal(
            bytes.fromhex(vector["kek"]), sealed, independent.aad(2, other)
        )


@pytest.mark.parametrize("vector", vectors("encoding"), ids=lambda v: v["kid"])
def test_encoding_both_ways(vector: dict[str, str]) -> None:
    sealed = bytes.fromhex(vector["sealed"])
    assert independent.write(as_seed(vector)) == sealed
    assert independent.read(sealed) == as_seed(vector)


@pytest.mark.parametrize(("what", "sealed"), vectors("refused")[0].items())
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
    seed = independent.unseal(
        bytes.fromhex(of_seed["kek"]),
        sealed,
        independent.aad(sealed.version, key_id.decode()),
    )
    found = independent.decrypt_object(encrypted, seed, vector["etcd_key"])

    assert found.decode() == vector["plaintext"]

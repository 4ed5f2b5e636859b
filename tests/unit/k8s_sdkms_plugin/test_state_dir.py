"""The state folder: its files, what is wrong with them, and a disk that hangs."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tests.unit.k8s_sdkms_plugin.support import BASE, GO_PLUGIN

from adapters_dsm.refusals import Refusal, Refusals
from k8s_sdkms_plugin.config.loading import load
from k8s_sdkms_plugin.state_dir import (
    KEK_FILE,
    PROOF_FILE,
    REFUSALS_FILE,
    StateDir,
    StateUnusable,
)
from k8s_sdkms_plugin.wiring import refusals_for, store_for
from kms_core.fakes import RecordedTelemetry, settle
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import AnnouncedKey
from kms_core.provider import Ciphertext
from kms_core.store import NoStore, StateStore, StoredKek, StoredProof


if TYPE_CHECKING:
    from pathlib import Path

    from kms_core.ports import Event


NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
KEK = StoredKek(
    WrappedKek(
        KID, f"sdkms.v1:{KID}", Ciphertext(bytes(range(32)), bytes(12), bytes(16))
    ),
    NOW,
)
PROOF = StoredProof(AnnouncedKey(KID, f"sdkms.v1:{KID}"), NOW)


class ThreadNoting(RecordedTelemetry):
    """Notes which thread each event came from."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.threads.add(threading.get_ident())


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.telemetry = ThreadNoting()
        self.store = self.process()

    def process(self, identity: str = "mine", patience_s: float = 5.0) -> StateDir:
        return StateDir(self.path, identity, self.telemetry, patience_s=patience_s)

    def complaints(self) -> list[tuple[str, str]]:
        events = self.telemetry.events
        told = [(e.file, e.why) for e in events if isinstance(e, StateUnusable)]
        assert len(told) == len(events)
        events.clear()
        return told

    def content(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / name).read_text())
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
async def full(folder: Folder) -> Folder:
    await folder.store.save_kek(KEK)
    await folder.store.save_proof(PROOF)
    return folder


# The files.


async def test_two_files_for_the_daemon_s_user_alone(full: Folder) -> None:
    assert full.names() == [KEK_FILE, PROOF_FILE]
    for name in full.names():
        assert (full.path / name).stat().st_mode & 0o777 == 0o600
    assert full.complaints() == []


async def test_what_stands_in_them(full: Folder) -> None:
    assert full.content(KEK_FILE)["state"] == {
        "kid": KID,
        "key_id": f"sdkms.v1:{KID}",
        "cipher": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "iv": "AAAAAAAAAAAAAAAA",
        "tag": "AAAAAAAAAAAAAAAAAAAAAA==",
        "made_at": "2026-01-02T03:04:05+00:00",
    }
    assert full.content(PROOF_FILE)["state"] == {
        "kid": KID,
        "key_id": f"sdkms.v1:{KID}",
        "well_at": "2026-01-02T03:04:05+00:00",
    }


async def test_saving_again_and_forgetting_leave_no_litter(full: Folder) -> None:
    for _ in range(5):
        await full.store.save_kek(KEK)
    await full.store.forget_proof()
    assert full.names() == [KEK_FILE]


async def test_state_of_other_settings_is_not_used_and_is_no_complaint(
    full: Folder,
) -> None:
    other = full.process("another")
    assert await other.load_kek() is None
    assert await other.load_proof() is None
    assert full.complaints() == []
    await other.save_proof(PROOF)
    assert await full.process().load_proof() is None


async def test_the_settings_do_not_stand_in_the_files(folder: Folder) -> None:
    store = folder.process("https://dsm.internal")
    await store.save_proof(PROOF)
    assert "dsm.internal" not in (folder.path / PROOF_FILE).read_text()


# Damage.


@pytest.mark.parametrize("name", [KEK_FILE, PROOF_FILE])
async def test_no_changed_byte_gives_other_state(full: Folder, name: str) -> None:
    path = full.path / name
    good = path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        kek, proof = await full.store.load_kek(), await full.store.load_proof()
        assert (kek, proof) in ((None, PROOF), (KEK, None))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{}",
        b"[" * 10_000,
        b"\xff\xfe",
        b'{"identity": "' + b"a" * 100_000 + b'"}',
    ],
)
@pytest.mark.parametrize("name", [KEK_FILE, PROOF_FILE])
async def test_other_content_is_one_complaint_that_does_not_quote_it(
    folder: Folder, name: str, content: bytes
) -> None:
    (folder.path / name).write_bytes(content)
    load = folder.store.load_kek if name == KEK_FILE else folder.store.load_proof
    assert await load() is None
    ((file, why),) = folder.complaints()
    assert file == name
    assert why
    assert why.isalnum()


async def test_a_truncated_file_is_not_used(full: Folder) -> None:
    path = full.path / KEK_FILE
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        assert await full.store.load_kek() is None


@pytest.mark.parametrize(
    "change",
    [
        {"well_at": "2026-01-02T03:04:05"},
        {"well_at": "yesterday"},
        {"well_at": 5},
        {"well_at": "0001-01-01T00:00:00+14:00"},
        {"key_id": ""},
        {"key_id": "x" * 1025},
        {"key_id": "sdkms.v1:\ud800"},
        {"key_id": "sdkms.v1:k\n"},
        {"key_id": "sdkms.v1:é"},
        {"key_id": None},
        {"kid": 5},
        {"kid": ["a"]},
    ],
)
async def test_a_proof_that_says_odd_things_is_not_used_though_it_is_whole(
    full: Folder, change: dict[str, Any]
) -> None:
    state = full.content(PROOF_FILE)["state"] | change
    full.store._save(PROOF_FILE, state)
    assert await full.store.load_proof() is None
    assert len(full.complaints()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"cipher": "!"},
        {"cipher": 5},
        {"cipher": None},
        {"iv": "AAA"},
        {"tag": "A" * 100},
        {"made_at": None},
    ],
)
async def test_a_local_kek_that_says_odd_things_is_not_used_though_it_is_whole(
    full: Folder, change: dict[str, Any]
) -> None:
    full.store._save(KEK_FILE, full.content(KEK_FILE)["state"] | change)
    assert await full.store.load_kek() is None
    assert len(full.complaints()) == 1


async def test_a_file_without_a_field_is_not_used(full: Folder) -> None:
    state = full.content(PROOF_FILE)["state"]
    del state["kid"]
    full.store._save(PROOF_FILE, state)
    assert await full.store.load_proof() is None


async def test_times_come_back_in_utc(folder: Folder) -> None:
    zone = dt.timezone(dt.timedelta(hours=5))
    await folder.store.save_proof(attrs.evolve(PROOF, well_at=NOW.astimezone(zone)))
    found = await folder.store.load_proof()
    assert found is not None
    assert found.well_at == NOW
    assert found.well_at.utcoffset() == dt.timedelta(0)


# A folder that fails.


async def test_a_missing_folder_costs_a_complaint_for_each_write(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "missing")
    assert await folder.store.load_kek() is None
    assert await folder.store.load_proof() is None
    await folder.store.forget_proof()
    assert folder.complaints() == []
    await folder.store.save_kek(KEK)
    await folder.store.save_proof(PROOF)
    why = "No such file or directory"
    assert folder.complaints() == [(KEK_FILE, why), (PROOF_FILE, why)]


async def test_a_file_that_is_a_folder_is_a_complaint(folder: Folder) -> None:
    (folder.path / PROOF_FILE).mkdir()
    assert await folder.store.load_proof() is None
    await folder.store.save_proof(PROOF)
    await folder.store.forget_proof()
    assert [file for file, _ in folder.complaints()] == [PROOF_FILE] * 3
    assert folder.names() == [PROOF_FILE]


async def test_a_write_that_fails_leaves_what_was_there_and_no_litter(
    full: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    await full.store.save_proof(attrs.evolve(PROOF, well_at=NOW + dt.timedelta(1)))
    assert full.complaints() == [(PROOF_FILE, "No space left on device")]
    assert full.names() == [KEK_FILE, PROOF_FILE]
    assert await full.store.load_proof() == PROOF


async def test_events_come_from_the_loop_s_own_thread(folder: Folder) -> None:
    (folder.path / KEK_FILE).write_bytes(b"damaged")
    await folder.store.load_kek()
    assert folder.telemetry.threads == {threading.get_ident()}


# A disk that hangs: a FIFO that nobody writes to.


async def test_a_disk_that_hangs_holds_nobody_and_takes_one_thread(
    full: Folder,
) -> None:
    path = full.path / KEK_FILE
    path.unlink()
    os.mkfifo(path)
    before = threading.active_count()
    store = full.process(patience_s=0.02)
    for _ in range(3):
        assert await store.load_kek() is None
        assert await store.load_proof() is None
    why = "the folder does not answer"
    assert full.complaints() == [(KEK_FILE, why), (PROOF_FILE, why)] * 3
    assert threading.active_count() <= before + 1

    # It heals by itself.
    path.write_bytes(b"")
    store = full.process()
    path.unlink()
    assert await store.load_proof() == PROOF


async def test_what_ends_late_is_waited_for_before_the_next(full: Folder) -> None:
    path = full.path / KEK_FILE
    path.unlink()
    os.mkfifo(path)
    store = full.process(patience_s=0.02)
    assert await store.load_kek() is None
    path.write_bytes(b"")
    store._patience_s = 5.0
    assert await store.load_proof() == PROOF
    assert len(full.complaints()) == 1


async def test_a_caller_that_hangs_up_leaves_the_next_one_its_turn(
    full: Folder,
) -> None:
    path = full.path / KEK_FILE
    path.unlink()
    os.mkfifo(path)
    loading = asyncio.create_task(full.store.load_kek())
    await settle()
    assert full.store._last is not None
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await asyncio.to_thread(path.write_bytes, b"")
    assert await full.store.load_proof() == PROOF
    assert full.complaints() == []


# Wiring.


def stored_in(tmp_path: Path, config: dict[str, Any]) -> StateStore:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"state_dir": str(state)}))
    loaded = load(path, {})
    assert loaded.config is not None
    return store_for(loaded, loaded.config, RecordedTelemetry())


def test_without_a_state_dir_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BASE))
    loaded = load(path, {})
    assert loaded.config is not None
    store = store_for(loaded, loaded.config, RecordedTelemetry())
    assert isinstance(store, NoStore)


async def test_the_same_file_finds_its_state_again(tmp_path: Path) -> None:
    await stored_in(tmp_path, BASE).save_proof(PROOF)
    for same in (BASE, BASE | {"on_outage": "fail", "protection": "direct"}):
        assert await stored_in(tmp_path, same).load_proof() == PROOF


@pytest.mark.parametrize(
    "change",
    [
        {"sdkms_endpoint": "https://other.example.com"},
        {"key_name": "another"},
        {"write_format": "go-plugin"},
    ],
)
async def test_settings_that_name_another_key_do_not(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    await stored_in(tmp_path, BASE).save_proof(PROOF)
    assert await stored_in(tmp_path, BASE | change).load_proof() is None


async def test_another_key_id_of_the_go_plugin_does_not_either(tmp_path: Path) -> None:
    # Both files lead to the same DSM; the Go plugin's hash tells them apart.
    await stored_in(tmp_path, GO_PLUGIN).save_proof(PROOF)
    assert await stored_in(tmp_path, GO_PLUGIN).load_proof() == PROOF
    slash = GO_PLUGIN | {"sdkms_endpoint": GO_PLUGIN["sdkms_endpoint"] + "/"}
    assert await stored_in(tmp_path, slash).load_proof() is None


REFUSALS = Refusals(
    (Refusal(NOW, "01234567"), Refusal(NOW + dt.timedelta(minutes=1), "89abcdef")),
    in_a_row=7,
    stopped=True,
)


@pytest.mark.parametrize("refusals", [REFUSALS, Refusals()])
async def test_refused_logins_come_back(folder: Folder, refusals: Refusals) -> None:
    assert await folder.store.load_refusals() is None
    await folder.store.save_refusals(refusals)
    assert await folder.process().load_refusals() == refusals
    assert await folder.process("another's").load_refusals() is None
    assert folder.names() == [REFUSALS_FILE]
    assert (folder.path / REFUSALS_FILE).stat().st_mode & 0o777 == 0o600
    assert folder.complaints() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "yesterday"},
        {"at": "2026-01-02T03:04:05"},
        {"at": ""},
        {"fingerprints": "01234567"},
        {"in_a_row": "often"},
        {"in_a_row": None},
        {"stopped": ...},
    ],
    ids=str,
)
async def test_refusals_that_say_odd_things_are_not_used(
    folder: Folder, changes: dict[str, Any]
) -> None:
    await folder.store.save_refusals(REFUSALS)
    state = folder.content(REFUSALS_FILE)["state"] | changes
    state = {name: value for name, value in state.items() if value is not ...}
    folder.store._save(REFUSALS_FILE, state)
    assert await folder.process().load_refusals() is None
    assert [file for file, _ in folder.complaints()] == [REFUSALS_FILE]


async def test_without_a_state_dir_refusals_are_kept_beside_the_socket(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.json"
    socket = {"socket_file": f"unix://{tmp_path}/kms.sock"}
    for more, where in (
        ({}, tmp_path),
        ({"state_dir": str(tmp_path / "state")}, tmp_path / "state"),
    ):
        file.write_text(json.dumps(BASE | socket | more))
        config = load(file, {}).config
        assert config is not None
        where.mkdir(exist_ok=True)
        await refusals_for(config, RecordedTelemetry()).save_refusals(REFUSALS)
        assert (where / REFUSALS_FILE).is_file()
        kept = refusals_for(config, RecordedTelemetry())
        assert await kept.load_refusals() == REFUSALS

"""Files of a credential: noticed when they change, checked before they are taken."""

# ruff: noqa: ASYNC240 - what blocks here is a local disk

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.unit.adapters_dsm.proofs import DAY, NOW, jwt, pair, write
from tests.unit.adapters_dsm.support import API_KEY, SkippingClock

from adapters_dsm import credential_files
from adapters_dsm.credential_files import MAX_FILE_BYTES, REMINDER_S, Credentials
from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.events import CredentialDoubted
from adapters_dsm.files import read_file
from adapters_dsm.settings import Secret
from kms_core.errors import CredentialRefused
from kms_core.fakes import RecordedTelemetry


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adapters_dsm.credentials import Credential
    from adapters_dsm.files import FileContent


OTHER_KEY = API_KEY[:-4] + "ZZZZ"


class Files:
    """A credential from a file in a folder, and what is told of it."""

    def __init__(self, source: CredentialSource, clock: SkippingClock) -> None:
        self.telemetry = RecordedTelemetry()
        self.credentials = Credentials(source, clock, self.telemetry)

    async def header(self) -> str:
        shown = (await self.credentials.current()).authorization
        assert shown is not None
        return shown.reveal()

    @property
    def told(self) -> list[str]:
        events = self.telemetry.events
        return [e.what for e in events if isinstance(e, CredentialDoubted)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "key", API_KEY)


@pytest.fixture
def files(path: Path, clock: SkippingClock) -> Files:
    return Files(CredentialSource(api_key_file=path), clock)


async def test_a_key_in_the_settings_needs_no_file(clock: SkippingClock) -> None:
    files = Files(CredentialSource(api_key=Secret(API_KEY)), clock)
    assert await files.header() == f"Basic {API_KEY}"
    assert files.credentials.latest is await files.credentials.current()
    await files.credentials.aclose()


async def test_a_file_is_read_when_somebody_asks_and_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = read_file

    def count(path: Path, max_bytes: int) -> FileContent:
        reads.append(path)
        return read(path, max_bytes)

    monkeypatch.setattr(credential_files, "read_file", count)
    assert files.credentials.latest is None
    asking = [files.credentials.current() for _ in range(3)]
    assert len({id(credential) for credential in await asyncio.gather(*asking)}) == 1
    assert len(reads) == 1
    assert files.told == []


def rewrite(path: Path, content: str) -> None:
    path.write_text(content)


def replace(path: Path, content: str) -> None:
    write(path, content)


@pytest.mark.parametrize("change", [rewrite, replace])
async def test_a_changed_file_is_taken(
    files: Files, path: Path, change: Callable[[Path, str], None]
) -> None:
    assert await files.header() == f"Basic {API_KEY}"
    change(path, OTHER_KEY)
    assert await files.header() == f"Basic {OTHER_KEY}"


async def test_the_rename_of_a_mounts_symlink_is_a_change(
    tmp_path: Path, clock: SkippingClock
) -> None:
    """As the kubelet does it: ``..data`` is a link to a folder, and is replaced."""
    for folder, key in (("..1", API_KEY), ("..2", OTHER_KEY)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "key", key)
        # The same size and times: only the way there differs.
        os.utime(tmp_path / folder / "key", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "key").symlink_to("..data/key")
    files = Files(CredentialSource(api_key_file=tmp_path / "key"), clock)
    assert await files.header() == f"Basic {API_KEY}"
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert await files.header() == f"Basic {OTHER_KEY}"


async def test_the_same_content_again_is_the_same_credential(
    files: Files, path: Path
) -> None:
    first = await files.credentials.current()
    replace(path, API_KEY + "\n")
    assert await files.credentials.current() is first


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def too_long(path: Path) -> None:
    path.write_bytes(b"a" * (MAX_FILE_BYTES + 1))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = [empty, noise, too_long, folder, pipe, device, loop, gone]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_an_unfit_file_is_told_of_once_and_the_old_credential_goes_on(
    files: Files, path: Path, damage: Callable[[Path], None]
) -> None:
    await files.credentials.current()
    damage(path)
    for _ in range(5):
        assert await files.header() == f"Basic {API_KEY}"
    (told,) = files.told
    assert "is not used: it" in told
    assert "the old credential goes on" in told
    assert API_KEY not in told
    if path.is_dir():
        path.rmdir()
    replace(path, OTHER_KEY)
    assert await files.header() == f"Basic {OTHER_KEY}"
    assert not files.credentials.doubts


@pytest.mark.parametrize("damage", DAMAGES)
async def test_without_a_fit_file_there_is_no_login(
    files: Files, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    with pytest.raises(CredentialRefused, match="api_key_file: ") as caught:
        await files.credentials.current()
    assert not caught.value.remembered
    if path.is_dir():
        path.rmdir()
    replace(path, API_KEY)
    assert await files.header() == f"Basic {API_KEY}"


async def test_what_was_put_back_is_no_longer_doubted(
    files: Files, path: Path, tmp_path: Path
) -> None:
    await files.credentials.current()
    path.rename(tmp_path / "aside")
    await files.credentials.current()
    assert [doubt.setting for doubt in files.credentials.doubts] == ["api_key_file"]
    (tmp_path / "aside").rename(path)
    # A rename changes the inode's ctime: it is read again, and is the same.
    assert await files.header() == f"Basic {API_KEY}"
    assert not files.credentials.doubts


class Today(SkippingClock):
    """Its date is the machine's, that of the files."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)


async def test_what_was_just_written_waits_until_it_is_whole(path: Path) -> None:
    clock = Today()
    files = Files(CredentialSource(api_key_file=path), clock)
    assert await files.header() == f"Basic {API_KEY}", "the first need not wait"
    path.write_text(API_KEY[:20])
    assert await files.header() == f"Basic {API_KEY}"
    assert clock.slept == [1.0, 1.0, 1.0]
    path.write_text(OTHER_KEY)
    os.utime(path, (1, 1))
    assert await files.header() == f"Basic {OTHER_KEY}"


async def test_files_that_change_meanwhile_are_read_again(
    tmp_path: Path, clock: SkippingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is read before a renewal, the key after it."""
    old, new = pair(), pair()
    files = Files(CredentialSource(**old.write(tmp_path)), clock)
    await files.credentials.current()
    write(tmp_path / "tls.crt", pair().certificate)
    read = read_file
    renewals = iter([new])

    def read_slowly(path: Path, max_bytes: int) -> FileContent:
        if path.name == "tls.key":
            for renewed in renewals:
                renewed.write(tmp_path)
        return read(path, max_bytes)

    monkeypatch.setattr(credential_files, "read_file", read_slowly)
    found = await files.credentials.current()
    assert found.certificate is not None
    assert new.certificate in found.certificate.pem
    assert files.told == []


async def test_a_certificate_without_its_key_waits_for_it(
    tmp_path: Path, clock: SkippingClock
) -> None:
    old, new = pair(), pair()
    files = Files(CredentialSource(**old.write(tmp_path)), clock)
    first = await files.credentials.current()
    write(tmp_path / "tls.crt", new.certificate)
    assert await files.credentials.current() is first
    assert "not the key of the certificate" in files.told[0]
    write(tmp_path / "tls.key", new.key)
    assert await files.credentials.current() is not first


Dates = tuple[dt.datetime, dt.datetime]


async def certificates(
    tmp_path: Path, clock: SkippingClock, *both: Dates
) -> tuple[Credential, Credential, Files]:
    made = [pair(begins=begins, ends=ends) for begins, ends in both]
    files = Files(CredentialSource(**made[0].write(tmp_path)), clock)
    before = await files.credentials.current()
    made[1].write(tmp_path)
    return before, await files.credentials.current(), files


GOOD = (NOW - DAY, NOW + 365 * DAY)
OVER = (NOW - 2 * DAY, NOW - DAY)
TO_COME = (NOW + DAY, NOW + 365 * DAY)


@pytest.mark.parametrize("second", [OVER, TO_COME])
async def test_what_is_out_of_date_does_not_replace_what_is_good(
    tmp_path: Path, clock: SkippingClock, second: Dates
) -> None:
    before, after, files = await certificates(tmp_path, clock, GOOD, second)
    assert after is before
    assert "out of date" in files.told[0]


@pytest.mark.parametrize("second", [OVER, TO_COME])
async def test_our_clock_does_not_keep_a_first_credential_from_dsm(
    tmp_path: Path, clock: SkippingClock, second: Dates
) -> None:
    """It may be our clock that is wrong; DSM decides."""
    before, after, files = await certificates(tmp_path, clock, OVER, second)
    assert after is not before
    assert "ended at" in files.told[0]


async def test_what_ends_is_told_of_once_a_day(
    tmp_path: Path, clock: SkippingClock
) -> None:
    made = pair(ends=NOW + 29 * DAY)
    files = Files(CredentialSource(**made.write(tmp_path)), clock)
    for _ in range(3):
        await files.credentials.current()
    assert files.told == ["ends at 2026-01-30T00:00:00Z"]
    clock.ahead_s += REMINDER_S
    await files.credentials.current()
    assert len(files.told) == 2


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o400, False), (0o644, True), (0o620, True)]
)
async def test_a_secret_that_others_may_read_or_change_is_told_of(
    files: Files, path: Path, mode: int, *, is_told: bool
) -> None:
    path.chmod(mode)
    for _ in range(3):
        assert await files.header() == f"Basic {API_KEY}"
    assert len(files.told) == is_told
    path.chmod(0o600)
    await files.credentials.current()
    assert not files.credentials.doubts


async def test_a_certificate_may_be_read_by_all_and_its_key_may_not(
    tmp_path: Path, clock: SkippingClock
) -> None:
    named = pair().write(tmp_path)
    named["client_cert_file"].chmod(0o644)
    files = Files(CredentialSource(**named), clock)
    await files.credentials.current()
    assert files.told == []
    named["client_key_file"].chmod(0o644)
    await files.credentials.current()
    (told,) = files.told
    assert "tls.key holds a secret, and its mode 0644" in told


async def test_a_token_is_taken_again_when_its_writer_renews_it(
    tmp_path: Path, clock: SkippingClock
) -> None:
    ends = [(NOW + n * DAY).timestamp() for n in (1, 2)]
    path = write(tmp_path / "jwt", jwt({"exp": ends[0]}))
    files = Files(CredentialSource(jwt_file=path), clock)
    assert (await files.credentials.current()).expires_at == NOW + DAY
    write(path, jwt({"exp": ends[1]}))
    assert (await files.credentials.current()).expires_at == NOW + 2 * DAY


async def test_a_reader_that_fails_is_no_more_than_an_unfit_file(
    files: Files, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.credentials.current()
    replace(path, OTHER_KEY)

    def broken(*_: object) -> None:
        raise LookupError(OTHER_KEY)

    monkeypatch.setattr(credential_files, "make_credential", broken)
    assert await files.header() == f"Basic {API_KEY}"
    assert "it makes no sense (LookupError)" in files.told[0]
    assert OTHER_KEY not in files.told[0]


async def test_a_disk_that_hangs_holds_nobody(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.credentials.current()
    monkeypatch.setattr(credential_files, "PATIENCE_S", 0.01)
    go = threading.Event()
    looks: list[object] = []

    def hang(named: object) -> object:
        looks.append(named)
        go.wait(30)
        return None

    monkeypatch.setattr(credential_files, "_stamps", hang)
    try:
        for _ in range(3):
            assert await files.header() == f"Basic {API_KEY}"
        assert len(looks) == 1, "one thread, however often somebody asks"
    finally:
        go.set()
        await files.credentials.aclose()


async def test_a_disk_that_hung_is_waited_for_again(
    files: Files, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.credentials.current()
    go = threading.Event()
    real = credential_files._stamps

    def hang(named: dict[str, Path]) -> object:
        go.wait(30)
        return real(named)

    monkeypatch.setattr(credential_files, "_stamps", hang)
    monkeypatch.setattr(credential_files, "PATIENCE_S", 0.01)
    await files.credentials.current()
    reading = files.credentials._reading
    assert reading is not None
    go.set()
    await reading
    monkeypatch.setattr(credential_files, "PATIENCE_S", 30.0)
    replace(path, OTHER_KEY)
    os.utime(path, (1, 1))
    assert await files.header() == f"Basic {OTHER_KEY}"


async def test_a_disk_that_hangs_from_the_start_is_said(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_files, "PATIENCE_S", 0.01)
    go = threading.Event()
    monkeypatch.setattr(credential_files, "_stamps", lambda _: go.wait(30))
    try:
        with pytest.raises(CredentialRefused, match="can't be read in time"):
            await files.credentials.current()
    finally:
        go.set()
        await files.credentials.aclose()

"""The credential in use, read again when its files change.

A change is noticed by a look at the files (``stat``, symlinks followed, so that the
rename of ``..data`` in a mount of Kubernetes shows), at each look of the watcher, at
each login and on SIGHUP; there is no thread that watches (docs/decisions/0014).

- What changed replaces the old only if it is fit: whole, of its kind, the key that of
  the certificate, and not out of date while the old one is good.
- An unfit file is told of once, and read again at each look until it is fit.
- Files that are changing while they are read, or that were written within the last
  second, are looked at again: nobody should read half a file.
- Files are read in a thread, one at a time: a disk that hangs holds nobody.
"""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING, Final

from adapters_dsm.credentials import Credential, Unfit, make_credential
from adapters_dsm.events import CredentialDoubted
from adapters_dsm.files import FileContent, NotRegular, Stamp, read_file
from kms_core.errors import CredentialRefused


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_dsm.credential_source import CredentialSource
    from kms_core.ports import Clock, Telemetry


MAX_FILE_BYTES: Final = 64 * 1024
"""Longest file that is read; a chain of ten certificates takes some 20 kB."""

PATIENCE_S: Final = 2.0
"""For so long a login waits for the disk, in seconds, before it goes on without."""

SETTLED_S: Final = 1.0
"""What was written within so many seconds may not be whole yet."""

REMINDER_S: Final = 24 * 3600.0
"""After so many seconds the log is told again of what still needs a person."""

_LOOKS = 3
_PUBLIC = "client_cert_file"


class Credentials:
    """Knows the credential that a login should present.

    Args:
        source: Where it comes from.
        clock: Time.
        telemetry: Learns of what needs a person.
    """

    def __init__(
        self, source: CredentialSource, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._source = source
        self._files = source.files
        self._clock = clock
        self._telemetry = telemetry
        self._stamps: dict[str, Stamp] | None = None
        self._refused: CredentialDoubted | None = None
        self._open: tuple[CredentialDoubted, ...] = ()
        self._told: dict[CredentialDoubted, float] = {}
        self._reading: asyncio.Task[None] | None = None
        self._late = False
        self._latest: Credential | None = None
        if not self._files:
            self._latest = make_credential(source, {})

    @property
    def latest(self) -> Credential | None:
        """The credential, as of the last look; None before there was a fit one."""
        return self._latest

    @property
    def doubts(self) -> tuple[CredentialDoubted, ...]:
        """What a person should hear of it."""
        now = self._clock.now()
        terms = () if self._latest is None else self._latest.terms
        ends = [doubt for term in terms if (doubt := term.doubt(now)) is not None]
        refused = () if self._refused is None else (self._refused,)
        return (*refused, *self._open, *ends)

    async def current(self) -> Credential:
        """Return the credential, after a look at its files.

        Raises:
            CredentialRefused: No fit one was ever read; nobody was asked.
        """
        if self._files:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            # Those who wait share it, and none of them ends it. A disk that hangs is
            # waited for once, unless there is nothing to go on with.
            patience_s = 0.0 if self._late and self._latest else PATIENCE_S
            done, _ = await asyncio.wait((self._reading,), timeout=patience_s)
            # One that ends later says so itself.
            self._late = not done
        self._tell()
        if self._latest is not None:
            return self._latest
        refused = self._refused
        if refused is None:
            raise CredentialRefused("the files of the credential can't be read in time")
        raise CredentialRefused(f"{refused.setting}: {refused.what}")

    async def aclose(self) -> None:
        """End what reads; a thread that hangs is left behind."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))

    async def _read(self) -> None:
        try:
            for _ in range(_LOOKS):
                if await self._settled():
                    return
                await self._clock.sleep(SETTLED_S)
        finally:
            self._reading = None
            self._late = False

    async def _settled(self) -> bool:
        """Take what stands in the files; return False if it may be changing."""
        try:
            stamps = await asyncio.to_thread(_stamps, self._files)
            if stamps == self._stamps:
                self._refused = None
                return True
            if self._latest is not None and self._is_young(stamps):
                return False
            found = await asyncio.to_thread(_contents, self._files)
            if await asyncio.to_thread(_stamps, self._files) != stamps:
                return False
            self._take(found, stamps)
        except Unfit as unfit:
            self._refuse(unfit)
        except Exception as error:  # noqa: BLE001 - hostile until checked
            name = next(iter(self._files))
            self._refuse(Unfit(name, f"it makes no sense ({type(error).__name__})"))
        return True

    def _is_young(self, stamps: dict[str, Stamp]) -> bool:
        now_s = self._clock.now().timestamp()
        return any(
            0 <= now_s - stamp.written_ns / 1e9 < SETTLED_S for stamp in stamps.values()
        )

    def _take(self, found: dict[str, FileContent], stamps: dict[str, Stamp]) -> None:
        contents = {name: file.content for name, file in found.items()}
        made = make_credential(self._source, contents)
        now = self._clock.now()
        old = self._latest
        if old is not None and old.runs(now):
            for term in made.terms:
                if not term.runs(now):
                    raise Unfit(term.setting, "it is out of date")
        self._refused = None
        self._stamps = stamps
        self._open = tuple(
            _open_to_others(name, self._files[name], file)
            for name, file in found.items()
            if name != _PUBLIC and file.open_to_others
        )
        if made != old:
            self._latest = made

    def _refuse(self, unfit: Unfit) -> None:
        goes_on = "" if self._latest is None else "; the old credential goes on"
        self._refused = CredentialDoubted(
            setting=unfit.setting,
            what=f"{self._files[unfit.setting]} is not used: {unfit.what}{goes_on}",
            remedy="put a whole and valid one in its place; it is taken by itself",
        )

    def _tell(self) -> None:
        now = self._clock.monotonic()
        doubts = self.doubts
        self._told = {doubt: at for doubt, at in self._told.items() if doubt in doubts}
        for doubt in doubts:
            if now - self._told.get(doubt, now - REMINDER_S) >= REMINDER_S:
                self._told[doubt] = now
                self._telemetry.emit(doubt)


def _stamps(files: dict[str, Path]) -> dict[str, Stamp]:
    stamps = {}
    for name, path in files.items():
        try:
            stamps[name] = Stamp.of(path.stat())
        except (OSError, ValueError) as failure:
            raise Unfit(name, _unreadable(failure)) from None
    return stamps


def _contents(files: dict[str, Path]) -> dict[str, FileContent]:
    found = {}
    for name, path in files.items():
        try:
            found[name] = read_file(path, MAX_FILE_BYTES)
        except NotRegular:
            raise Unfit(name, "it is not a regular file") from None
        except (OSError, ValueError) as failure:
            raise Unfit(name, _unreadable(failure)) from None
        if len(found[name].content) > MAX_FILE_BYTES:
            raise Unfit(name, "it is too long")
    return found


def _unreadable(failure: OSError | ValueError) -> str:
    reason = getattr(failure, "strerror", None) or type(failure).__name__
    return f"it can't be read ({reason})"


def _open_to_others(name: str, path: Path, file: FileContent) -> CredentialDoubted:
    return CredentialDoubted(
        setting=name,
        what=f"{path} holds a secret, and its mode {stat.S_IMODE(file.mode):04o} lets "
        "others read or change it",
        remedy="chmod 0600; for a Secret that Kubernetes mounts set defaultMode 0400",
    )

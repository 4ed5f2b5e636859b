"""StateDir: what survives a restart, as small JSON files. Nothing in it is secret.

A file that is lost, damaged or of another configuration is as good as none, and a
folder that can't be written costs no more than that: each failure is one event. A
digest finds damage that still reads well: a key_id with one letter wrong must not
become what Status answers.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import frozen

from adapters_dsm.refusals import Refusal, Refusals, RefusalStore
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import AnnouncedKey
from kms_core.limits import MAX_KEY_ID_BYTES
from kms_core.ports import Event, Telemetry
from kms_core.provider import Ciphertext
from kms_core.store import StateStore, StoredKek, StoredProof


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


T = TypeVar("T")

KEK_FILE: Final = "local-kek.json"
PROOF_FILE: Final = "proof.json"
REFUSALS_FILE: Final = "refused-logins.json"

_MAX_FILE_BYTES: Final = 16 * 1024
_MAX_PART_BYTES: Final = 64


@frozen(kw_only=True)
class StateUnusable(Event):
    """A file of the state folder can't be read or written; the daemon goes on.

    Attributes:
        file: Its name.
        why: What is wrong, without its content.
    """

    file: str
    why: str


class StateDir(StateStore, RefusalStore):
    """Keeps state in a folder of the daemon's own.

    Args:
        folder: The folder; it must exist.
        identity: What the state belongs to: the settings that name the key. State of
            another identity is not used.
        telemetry: Learns of what can't be used.
        patience_s: How long the disk may take, in seconds: the watcher and Encrypts
            wait for it.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        telemetry: Telemetry,
        *,
        patience_s: float = 2.0,
    ) -> None:
        self._folder = folder
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._telemetry = telemetry
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        self._last: asyncio.Future[Any] | None = None

    async def load_kek(self) -> StoredKek | None:
        """Return the wrapped local KEK of the last process."""
        return await self._do(KEK_FILE, lambda: self._load(KEK_FILE, _read_kek))

    async def save_kek(self, stored: StoredKek) -> None:
        """Keep a wrapped local KEK."""
        fields = _kek_fields(stored)
        await self._do(KEK_FILE, lambda: self._save(KEK_FILE, fields))

    async def load_proof(self) -> StoredProof | None:
        """Return the last proof of the last process."""
        return await self._do(PROOF_FILE, lambda: self._load(PROOF_FILE, _read_proof))

    async def save_proof(self, stored: StoredProof) -> None:
        """Keep a proof."""
        fields = _proof_fields(stored)
        await self._do(PROOF_FILE, lambda: self._save(PROOF_FILE, fields))

    async def forget_proof(self) -> None:
        """Delete the proof."""
        path = self._folder / PROOF_FILE
        await self._do(PROOF_FILE, lambda: path.unlink(missing_ok=True))

    async def load_refusals(self) -> Refusals | None:
        """Return the refused logins of the last processes."""
        return await self._do(
            REFUSALS_FILE, lambda: self._load(REFUSALS_FILE, _read_refusals)
        )

    async def save_refusals(self, refusals: Refusals) -> None:
        """Keep refused logins."""
        fields = _refusals_fields(refusals)
        await self._do(REFUSALS_FILE, lambda: self._save(REFUSALS_FILE, fields))

    async def _do(self, file: str, work: Callable[[], T]) -> T | None:
        """Return what *work* returns in a thread, or None if it fails or hangs."""
        async with self._turn:
            # One thread at a time: a disk that hangs must not take them all.
            if self._last is not None and not await self._ends(self._last):
                self._unusable(file, "the folder does not answer")
                return None
            doing: asyncio.Future[T] = asyncio.ensure_future(asyncio.to_thread(work))
            self._last = doing
            if not await self._ends(doing):
                self._unusable(file, "the folder does not answer")
                # Whatever it ends in, it was seen.
                doing.add_done_callback(_look_away)
                return None
        try:
            return doing.result()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason
            self._unusable(file, _why(error))
            return None

    async def _ends(self, doing: asyncio.Future[Any]) -> bool:
        done, _ = await asyncio.wait((doing,), timeout=self._patience_s)
        return bool(done)

    def _load(self, name: str, read: Callable[[dict[str, Any]], T]) -> T | None:
        try:
            with (self._folder / name).open("rb") as file:
                content = json.loads(file.read(_MAX_FILE_BYTES))
        except FileNotFoundError:
            return None
        if content["identity"] != self._identity:
            return None
        if content["digest"] != self._digest(content["state"]):
            raise ValueError("damaged")
        return read(content["state"])

    def _save(self, name: str, state: dict[str, str]) -> None:
        content = {
            "identity": self._identity,
            "digest": self._digest(state),
            "state": state,
        }
        # Mode 0600 from the start; whole or not at all, also after a crash.
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._folder / name)  # noqa: PTH105 - a str
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108 - a str
            raise

    def _digest(self, state: object) -> str:
        told = json.dumps([self._identity, state], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _unusable(self, file: str, why: str) -> None:
        self._telemetry.emit(StateUnusable(file=file, why=why))


def _why(error: Exception) -> str:
    """Return what went wrong: never the text of an error, which may quote a file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _look_away(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled():
        ended.exception()


def _kek_fields(stored: StoredKek) -> dict[str, str]:
    wrapped = stored.wrapped
    return {
        "kid": wrapped.kid,
        "key_id": wrapped.key_id,
        "cipher": base64.b64encode(wrapped.ciphertext.cipher).decode(),
        "iv": base64.b64encode(wrapped.ciphertext.iv).decode(),
        "tag": base64.b64encode(wrapped.ciphertext.tag).decode(),
        "made_at": stored.made_at.isoformat(),
    }


def _read_kek(fields: dict[str, Any]) -> StoredKek:
    ciphertext = Ciphertext(*(_bytes(fields[name]) for name in ("cipher", "iv", "tag")))
    wrapped = WrappedKek(_text(fields["kid"]), _text(fields["key_id"]), ciphertext)
    return StoredKek(wrapped, _time(fields["made_at"]))


def _proof_fields(stored: StoredProof) -> dict[str, str]:
    return {
        "kid": stored.key.kid,
        "key_id": stored.key.key_id,
        "well_at": stored.well_at.isoformat(),
    }


def _read_proof(fields: dict[str, Any]) -> StoredProof:
    key = AnnouncedKey(_text(fields["kid"]), _text(fields["key_id"]))
    return StoredProof(key, _time(fields["well_at"]))


def _refusals_fields(refusals: Refusals) -> dict[str, str]:
    # Beside each other, since a state is texts alone.
    latest = refusals.latest
    return {
        "at": " ".join(refusal.at.isoformat() for refusal in latest),
        "fingerprints": " ".join(refusal.fingerprint for refusal in latest),
        "in_a_row": str(refusals.in_a_row),
        "stopped": "yes" if refusals.stopped else "no",
    }


def _read_refusals(fields: dict[str, Any]) -> Refusals:
    pairs = zip(fields["at"].split(), fields["fingerprints"].split(), strict=True)
    latest = tuple(Refusal(_time(at), _text(who)) for at, who in pairs)
    return Refusals(latest, int(fields["in_a_row"]), fields["stopped"] == "yes")


def _bytes(value: Any) -> bytes:
    content = base64.b64decode(value, validate=True)
    if len(content) > _MAX_PART_BYTES:
        raise ValueError("too long")
    return content


def _text(value: Any) -> str:
    # Printable: a lone surrogate, say, could not leave in an answer of Status.
    well_formed = isinstance(value, str) and value.isascii() and value.isprintable()
    if not well_formed or not 1 <= len(value) <= MAX_KEY_ID_BYTES:
        raise ValueError("not a text of good form")
    return str(value)


def _time(value: Any) -> dt.datetime:
    at = dt.datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return at.astimezone(dt.UTC)

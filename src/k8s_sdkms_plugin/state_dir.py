"""StateDir: what survives a restart, as two small JSON files. Nothing in it is secret.

A file that is lost, damaged or of another configuration is as good as none, and a
folder that can't be written costs no more than that: each failure is one event.
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
from cattrs import Converter

from kms_core.kek_cache import WrappedKek
from kms_core.key_id import AnnouncedKey
from kms_core.limits import MAX_KEY_ID_BYTES
from kms_core.ports import Event, Telemetry
from kms_core.provider import Ciphertext
from kms_core.store import StateStore, StoredKek, StoredProof


if TYPE_CHECKING:
    from pathlib import Path


T = TypeVar("T")

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


class StateDir(StateStore):
    """Keeps state in a folder of the daemon's own.

    Args:
        folder: The folder; it must exist.
        identity: What the state belongs to: the settings that name the key. State of
            another identity is not used.
        telemetry: Learns of what can't be used.
    """

    def __init__(self, folder: Path, identity: str, telemetry: Telemetry) -> None:
        self._folder = folder
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._telemetry = telemetry
        self._converter = _converter()

    async def load_kek(self) -> StoredKek | None:
        """Return the wrapped local KEK of the last process."""
        return await asyncio.to_thread(self._load, "local-kek.json", StoredKek)

    async def save_kek(self, stored: StoredKek) -> None:
        """Keep a wrapped local KEK."""
        await asyncio.to_thread(self._save, "local-kek.json", stored)

    async def load_proof(self) -> StoredProof | None:
        """Return the last proof of the last process."""
        return await asyncio.to_thread(self._load, "proof.json", StoredProof)

    async def save_proof(self, stored: StoredProof) -> None:
        """Keep a proof."""
        await asyncio.to_thread(self._save, "proof.json", stored)

    def _load(self, name: str, kind: type[T]) -> T | None:
        try:
            with (self._folder / name).open("rb") as file:
                content = json.loads(file.read(_MAX_FILE_BYTES))
            if content["identity"] != self._identity:
                return None
            return self._converter.structure(content["state"], kind)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever it holds, it is no reason
            self._unusable(name, error)
            return None

    def _save(self, name: str, stored: StoredKek | StoredProof) -> None:
        content = {
            "identity": self._identity,
            "state": self._converter.unstructure(stored),
        }
        try:
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
        except OSError as error:
            self._unusable(name, error)

    def _unusable(self, name: str, error: Exception) -> None:
        why = type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            why = error.strerror
        self._telemetry.emit(StateUnusable(file=name, why=why))


def _converter() -> Converter:
    made = Converter(forbid_extra_keys=True)
    made.register_unstructure_hook(bytes, lambda b: base64.b64encode(b).decode())
    made.register_structure_hook(bytes, _bytes)
    made.register_structure_hook(str, _text)
    made.register_unstructure_hook(dt.datetime, lambda at: at.isoformat())
    made.register_structure_hook(dt.datetime, _time)
    # Named here so that a change of the classes is a change of this file's format.
    for kind in (Ciphertext, WrappedKek, AnnouncedKey, StoredKek, StoredProof):
        made.get_structure_hook(kind)
    return made


def _bytes(value: Any, _type: object) -> bytes:
    content = base64.b64decode(value, validate=True)
    if len(content) > _MAX_PART_BYTES:
        raise ValueError("too long")
    return content


def _text(value: Any, _type: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY_ID_BYTES:
        raise ValueError("not a text of good length")
    return value


def _time(value: Any, _type: object) -> dt.datetime:
    at = dt.datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return at.astimezone(dt.UTC)

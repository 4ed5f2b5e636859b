"""``call``: a small KMS v2 client for people.

Plaintext never stands in the arguments: Encrypt reads it from standard input.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final

from adapters_grpc.client import CallFailed, KmsClient
from adapters_grpc.unix_socket import SocketRefused, socket_path
from kms_core.errors import one_line


if TYPE_CHECKING:
    from pathlib import Path


EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

_SEED_BYTES: Final = 32
_MAX_INPUT_BYTES: Final = 1_000_000


class _InputRefused(Exception):
    """Standard input is not what the method needs."""


def call(
    method: str, socket: str, *, timeout_s: float, at_random: bool, reveal: bool
) -> int:
    """Make one call, print the answer as JSON, and return the exit code.

    Args:
        method: ``status``, ``encrypt`` or ``decrypt``.
        socket: Path of the socket, with or without ``unix://``.
        timeout_s: Deadline in seconds.
        at_random: For encrypt: seal 32 random bytes instead of standard input.
        reveal: For decrypt: print the plaintext itself.
    """
    try:
        path = socket_path(socket)
        if not path.is_socket():
            print(f"error: there is no socket at {path}", file=sys.stderr)
            return EXIT_FAILED
        answer = asyncio.run(
            _ask(method, path, timeout_s, at_random=at_random, reveal=reveal)
        )
    except (SocketRefused, _InputRefused) as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return EXIT_USAGE
    except CallFailed as failure:
        # Another server's words: none of them may speak to the terminal.
        text = one_line(f"{failure.code_name}: {failure.text}")
        print(text, file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(answer, indent=2))
    return EXIT_OK


async def _ask(
    method: str, path: Path, timeout_s: float, *, at_random: bool, reveal: bool
) -> dict[str, Any]:
    uid = str(uuid.uuid4())
    async with KmsClient(path, timeout_s=timeout_s) as client:
        if method == "status":
            status = await client.status()
            return {
                "version": status.version,
                "healthz": status.healthz,
                "key_id": status.key_id,
            }
        if method == "encrypt":
            plaintext = secrets.token_bytes(_SEED_BYTES) if at_random else _read()
            sealed = await client.encrypt(plaintext, uid=uid)
            return {
                "key_id": sealed.key_id,
                "ciphertext": base64.b64encode(sealed.ciphertext).decode(),
                "uid": uid,
            }
        key_id, ciphertext = _stored(_read())
        plaintext = await client.decrypt(ciphertext, key_id, uid=uid)
        return _shown(plaintext, uid, reveal=reveal)


def _read() -> bytes:
    content = sys.stdin.buffer.read(_MAX_INPUT_BYTES)
    if not content:
        raise _InputRefused("standard input is empty")
    return content


def _stored(content: bytes) -> tuple[str, bytes]:
    """Return key_id and ciphertext of what ``call encrypt`` printed."""
    try:
        stored = json.loads(content)
        key_id = stored["key_id"]
        ciphertext = base64.b64decode(stored["ciphertext"], validate=True)
        if not isinstance(key_id, str):
            raise TypeError("a key_id is a string")  # noqa: TRY301 - as for the others
        key_id.encode()
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        raise _InputRefused(
            "standard input must be what `call encrypt` printed: a JSON object with "
            "key_id and ciphertext (base64)"
        ) from problem
    return key_id, ciphertext


def _shown(plaintext: bytes, uid: str, *, reveal: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "bytes": len(plaintext),
        "sha256": hashlib.sha256(plaintext).hexdigest(),
        "uid": uid,
    }
    if reveal:
        answer["plaintext"] = base64.b64encode(plaintext).decode()
    return answer

"""Limits that kube-apiserver sets, and ours within them.

Source: kubernetes/apiserver, ``envelope/kmsv2/envelope.go``: an answer of exactly
1,024 bytes passes there; ours stay below.
"""

from __future__ import annotations

from typing import Final


MAX_KEY_ID_BYTES: Final = 1024
"""Longest key_id in bytes of UTF-8."""

MAX_SEALED_SEED_BYTES: Final = 1024
"""Longest ciphertext in bytes."""

MAX_SEED_BYTES: Final = 512
"""Longest plaintext that Encrypt takes, in bytes; kube-apiserver sends 32."""

MAX_UID_CHARS: Final = 128
"""How much of a request's uid reaches the log."""

"""What counts as a leak in a plugin's words."""

from __future__ import annotations

import base64
import traceback

import pytest

from kms_conformance.leaks import leaks


SECRET = bytes(range(200, 232))


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper(),
        SECRET.hex(" "),
        SECRET.hex(":"),
        repr(SECRET),
        str(list(SECRET)),
        "[" + " ".join(map(str, SECRET)) + "]",
        SECRET.decode("latin-1"),
        base64.b64encode(SECRET).decode(),
        base64.b64encode(b"x" + SECRET).decode(),
        base64.urlsafe_b64encode(b"xy" + SECRET).decode(),
        f"bad seed {SECRET[5:15].hex()}...",
    ],
)
def test_secret_is_found_in_any_usual_writing(text: str) -> None:
    assert leaks(text, SECRET) == ("the plaintext",)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("goroutine 7 [running]:", "a stack trace of Go"),
        ("panic: runtime error", "a stack trace of Go"),
        ("at org.example.Kms.open(Kms.java:7)", "a stack trace of Java"),
        ("thread 'main' panicked at src/main.rs:1", "a stack trace of Rust"),
        ("-----BEGIN EC PRIVATE KEY-----", "a private key"),
        ("Authorization: Bearer abc", "a token"),
        ("token: eyJhbGciOiJFZERTQSJ9.eyJzdWIi.c2ln", "a token"),
        ("token-eyJhbGciOiJFZERTQSJ9.eyJzdWIi.c2ln", "a token"),
        ("token: eyJhbGciOi-FZERTQSJ9.eyJzdWIi.c2ln", "a token"),
        ("Authorization: Basic dXNlcjpwYXNz", "a token"),
        ("https://dsm.example/keys?token=abcdef", "a password"),
        ("kek;Password=hunter2", "a password"),
        ("https://user:pass@dsm.example/", "a password in a URL"),
    ],
)
def test_telltale_is_named(text: str, kind: str) -> None:
    assert leaks(text) == (kind,)


def test_long_hostile_text_holds_nobody_up() -> None:
    # A pattern that began anew at each of these would need hours.
    assert leaks(1_000_000 * "-eyJ") == ()


def test_stack_trace_of_python_is_found() -> None:
    try:
        raise ValueError  # noqa: TRY301 - its trace is what is looked for
    except ValueError:
        assert leaks(traceback.format_exc()) == ("a stack trace of Python",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the key_id is unknown",
        "https://dsm.example:443/ does not answer",
        "SealedSeedRefused: the ciphertext was not made by this key (SDK-012)",
        "Basic authentication failed, token=",
        SECRET[:7].hex(),
    ],
)
def test_harmless_words_are_no_leak(text: str) -> None:
    assert leaks(text, SECRET) == ()

"""What a status means: one line of the table each."""

from __future__ import annotations

import datetime as dt

import pytest

from adapters_dsm.answers import Answer
from adapters_dsm.statuses import (
    doubts_session,
    login_refusal,
    refusal,
    retry_after_s,
    says_session_is_dead,
)


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SECRET = b"hunter2 that DSM quotes"


def answer(
    status: int,
    body: bytes = SECRET,
    content_type: str = "text/plain",
    retry_after: str | None = None,
) -> Answer:
    return Answer(status, content_type, retry_after, "req-1", body)


@pytest.mark.parametrize(
    ("operation", "given", "code"),
    [
        ("describe", answer(404), "KEY-NOT-FOUND"),
        ("describe", answer(404, b""), "KEY-NOT-FOUND"),
        ("describe", answer(404, b"", "text/html"), "DSM-ANSWER-REFUSED"),
        ("describe", answer(404, b" <!DOCTYPE"), "DSM-ANSWER-REFUSED"),
        ("decrypt", answer(400), "SEALED-SEED-NOT-AUTHENTIC"),
        ("decrypt", answer(400, b"", "text/html"), "DSM-ANSWER-REFUSED"),
        ("encrypt", answer(400), "DSM-REQUEST-REFUSED"),
        ("describe", answer(400), "DSM-REQUEST-REFUSED"),
        ("encrypt", answer(401), "CREDENTIAL-REFUSED"),
        ("encrypt", answer(401, b"", "text/html"), "CREDENTIAL-REFUSED"),
        ("encrypt", answer(403), "PERMISSION-REFUSED"),
        ("encrypt", answer(403, b"", "text/html"), "DSM-ANSWER-REFUSED"),
        (
            "encrypt",
            answer(403, b'{"message":"This operation requires approval"}'),
            "APPROVAL-NEEDED",
        ),
        ("encrypt", answer(403, b"Session does not exist"), "CREDENTIAL-REFUSED"),
        ("encrypt", answer(408), "DSM-UNREACHABLE"),
        ("encrypt", answer(409), "DSM-REQUEST-REFUSED"),
        ("encrypt", answer(423), "DSM-REQUEST-REFUSED"),
        ("encrypt", answer(429), "DSM-THROTTLING"),
        ("encrypt", answer(500), "DSM-FAULTY"),
        ("encrypt", answer(503, b"<html>", "text/html"), "DSM-FAULTY"),
        ("encrypt", answer(302), "DSM-ANSWER-REFUSED"),
        ("encrypt", answer(201), "DSM-ANSWER-REFUSED"),
        ("encrypt", answer(999), "DSM-ANSWER-REFUSED"),
    ],
)
def test_meaning(operation: str, given: Answer, code: str) -> None:
    error = refusal(operation, f"{operation} at dsm.test", given)
    assert error.code == code
    assert f"HTTP {given.status}, request req-1" in error.cause
    assert f"{operation} at dsm.test" in error.cause
    assert "hunter2" not in error.text()


def test_no_request_id_leaves_no_gap() -> None:
    given = Answer(404, "", None, "", b"")
    error = refusal("describe", "describe at dsm.test", given)
    assert error.cause == "describe at dsm.test was answered with HTTP 404"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "CREDENTIAL-REFUSED"),
        (401, "CREDENTIAL-REFUSED"),
        (403, "CREDENTIAL-REFUSED"),
        (404, "DSM-ANSWER-REFUSED"),
        (423, "DSM-REQUEST-REFUSED"),
        (429, "DSM-THROTTLING"),
        (503, "DSM-FAULTY"),
        (307, "DSM-ANSWER-REFUSED"),
    ],
)
def test_meaning_at_a_login(status: int, code: str) -> None:
    assert login_refusal("login at dsm.test", answer(status)).code == code


@pytest.mark.parametrize(
    ("given", "doubted", "dead"),
    [
        (answer(401), True, True),
        (answer(403), True, False),
        (answer(403, b'"Session does not exist"'), True, True),
        (answer(404, b"Session does not exist"), True, True),
        (answer(200, b"Session does not exist"), False, False),
        (answer(403, b"This operation requires approval"), False, False),
        (answer(403, b"<html>"), False, False),
        (answer(404), False, False),
    ],
)
def test_doubt(given: Answer, *, doubted: bool, dead: bool) -> None:
    assert doubts_session(given) is doubted
    assert says_session_is_dead(given) is dead


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Thu, 01 Jan 2025 00:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1" * 10, None),
        ("soon", None),
        ("Thu, 99 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 2026 00:00:30 +9999999999999", None),
    ],
)
def test_retry_after(text: str | None, expected: float | None) -> None:
    assert retry_after_s(answer(429, retry_after=text), NOW) == expected

from __future__ import annotations

import pytest

from kms_conformance.api_server.rules import (
    is_domain_name,
    sealed_problems,
    status_problems,
)
from kms_conformance.connection import Sealed, StatusAnswer


@pytest.mark.parametrize(
    "name",
    ["a.com", "dev.k8s.io.", "10.0.0.1", "a-b.c", ".".join(["a" * 63, "b" * 63])],
)
def test_domain_names_are_accepted(name: str) -> None:
    assert is_domain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "com",
        "com.",
        "a..com",
        "a.com..",
        "Dev.k8s.io",
        "under_score.k8s.io",
        "*.example.com",
        "foo@bar.example.com",
        "example.com/name",
        "-a.com",
        "a-.com",
        f"{'a' * 64}.com",
        ".".join(["a" * 63] * 4),
        "\u00e4.com",
        "a.com\n",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert not is_domain_name(name)


@pytest.mark.parametrize(
    "answer",
    [
        StatusAnswer("v2", "ok", "k"),
        StatusAnswer("v2beta1", "ok", "k" * 1024),
    ],
)
def test_good_status_is_accepted(answer: StatusAnswer) -> None:
    assert status_problems(answer) == ()


@pytest.mark.parametrize(
    ("answer", "problems"),
    [
        (StatusAnswer("v2", "OK", "k"), 1),
        (StatusAnswer("v2", "ok ", "k"), 1),
        (StatusAnswer("v2alpha1", "ok", "k"), 1),
        (StatusAnswer("v2", "ok", ""), 1),
        (StatusAnswer("v2", "ok", "k" * 1025), 1),
        (StatusAnswer("v2", "ok", "\u00e4" * 513), 1),
        (StatusAnswer("", "", ""), 3),
    ],
)
def test_each_fault_of_status_is_named(answer: StatusAnswer, problems: int) -> None:
    assert len(status_problems(answer)) == problems


def test_limits_themselves_are_accepted() -> None:
    sealed = Sealed(b"c" * 1024, "k" * 1024, (("a.com", b"v" * (32768 - 5)),))
    assert sealed_problems(sealed) == ()


@pytest.mark.parametrize(
    ("sealed", "match"),
    [
        (Sealed(b"", "k"), "empty"),
        (Sealed(b"c" * 1025, "k"), "1025"),
        (Sealed(b"c", ""), "key_id"),
        (Sealed(b"c", "k", (("a.com/b", b""),)), "domain name"),
        (Sealed(b"c", "k", (("a.com", b"v" * (32768 - 4)),)), "32769"),
    ],
)
def test_each_fault_of_encrypt_is_named(sealed: Sealed, match: str) -> None:
    (problem,) = sealed_problems(sealed)
    assert match in problem

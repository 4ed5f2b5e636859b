"""What a login presents, for each kind; what is no credential, unquoted."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters_dsm.proofs import DAY, NOW, Pair, jwt, pair
from tests.unit.adapters_dsm.support import API_KEY, KID

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.credentials import MAX_JWT_CHARS, Credential, Unfit, make_credential
from adapters_dsm.settings import Secret


CERTIFICATE = {"client_cert_file": Path("/crt"), "client_key_file": Path("/key")}


def read(contents: dict[str, bytes], **settings: Any) -> Credential:
    files = {name: Path("/" + name) for name in contents}
    return make_credential(CredentialSource(**(files | settings)), contents)


def contents_of(made: Pair) -> dict[str, bytes]:
    return {"client_cert_file": made.certificate, "client_key_file": made.key}


def header_of(credential: Credential) -> str | None:
    shown = credential.authorization
    return None if shown is None else shown.reveal()


def of_jwt(claims: object) -> Credential:
    return read({"jwt_file": jwt(claims).encode()})


def test_an_api_key_goes_verbatim() -> None:
    assert header_of(read({}, api_key=Secret(API_KEY))) == f"Basic {API_KEY}"
    for end in ("", "\n", "\r\n"):
        found = read({"api_key_file": f"{API_KEY}{end}".encode()})
        assert header_of(found) == f"Basic {API_KEY}"
        assert found.expires_at is None
        assert found.terms == ()


def test_a_jwt_goes_as_a_bearer_and_ends_with_its_claim() -> None:
    found = of_jwt({"sub": KID, "exp": 1_800_000_000})
    assert header_of(found) == f"Bearer {jwt({'sub': KID, 'exp': 1_800_000_000})}"
    assert found.expires_at == dt.datetime.fromtimestamp(1_800_000_000, dt.UTC)
    assert of_jwt({}).expires_at is None


def test_a_certificate_goes_alone_or_with_the_id_of_the_app() -> None:
    made = pair()
    alone = read(contents_of(made))
    assert header_of(alone) is None
    assert alone.certificate is not None
    assert alone.expires_at == NOW + 365 * DAY
    named = read(contents_of(made), app_id=KID.upper())
    assert header_of(named) == "Basic " + base64.b64encode(f"{KID}:".encode()).decode()


def test_both_of_an_app_that_wants_both() -> None:
    claims = {"exp": (NOW + DAY).timestamp()}
    made = contents_of(pair())
    with_key = read(made, api_key=Secret(API_KEY))
    assert header_of(with_key) == f"Basic {API_KEY}"
    assert with_key.certificate is not None
    with_jwt = read(made | {"jwt_file": jwt(claims).encode()})
    assert header_of(with_jwt) == f"Bearer {jwt(claims)}"
    assert with_jwt.expires_at == NOW + DAY, "the first of the two"


def test_a_chain_is_kept_and_bounded() -> None:
    made, authority = pair(), pair()
    contents = contents_of(made)
    contents["client_cert_file"] += authority.certificate
    found = read(contents)
    assert found.certificate is not None
    assert found.certificate.pem.count(b"BEGIN CERTIFICATE") == 2
    contents["client_cert_file"] += 9 * authority.certificate
    with pytest.raises(Unfit) as caught:
        read(contents)
    assert "more than 10" in caught.value.what


MADE = pair()


@pytest.mark.parametrize(
    ("contents", "setting", "what"),
    [
        ({"api_key_file": b""}, "api_key_file", "must be the API key"),
        ({"api_key_file": b"hunter2 hunter2"}, "api_key_file", "must be the API key"),
        ({"api_key_file": b"hunter2\nhunter2"}, "api_key_file", "must be the API key"),
        ({"api_key_file": b"\xffhunter2"}, "api_key_file", "ASCII"),
        ({"jwt_file": b"\xff"}, "jwt_file", "ASCII"),
        ({"jwt_file": b"hunter2"}, "jwt_file", "no signed JWT"),
        ({"jwt_file": b"a.hunter2.c"}, "jwt_file", "no signed JWT"),
        ({"jwt_file": b"a.bm8.c"}, "jwt_file", "no signed JWT"),
        ({"jwt_file": b"a.b"}, "jwt_file", "no signed JWT"),
        ({"jwt_file": jwt([]).encode()}, "jwt_file", "no signed JWT"),
        ({"jwt_file": jwt({}).encode() + b"."}, "jwt_file", "no signed JWT"),
        ({"jwt_file": jwt({"exp": "soon"}).encode()}, "jwt_file", "claim exp"),
        ({"jwt_file": jwt({"exp": True}).encode()}, "jwt_file", "claim exp"),
        ({"jwt_file": jwt({"exp": 10**40}).encode()}, "jwt_file", "claim exp"),
        ({"jwt_file": jwt({"exp": float("nan")}).encode()}, "jwt_file", "claim exp"),
        ({"jwt_file": jwt({"exp": 1, "nbf": []}).encode()}, "jwt_file", "claim nbf"),
        ({"jwt_file": jwt({"a": "a" * MAX_JWT_CHARS}).encode()}, "jwt_file", "no sig"),
    ],
    ids=str,
)
def test_what_is_no_credential_is_refused_unquoted(
    contents: dict[str, bytes], setting: str, what: str
) -> None:
    with pytest.raises(Unfit) as caught:
        read(contents)
    assert caught.value.setting == setting
    assert what in caught.value.what
    assert "hunter2" not in f"{caught.value} {caught.value.what}"


@pytest.mark.parametrize(
    ("certificate", "key", "setting", "what"),
    [
        (b"", MADE.key, "client_cert_file", "no certificate"),
        (b"hunter2", MADE.key, "client_cert_file", "no certificate"),
        (MADE.key, MADE.key, "client_cert_file", "no certificate"),
        (MADE.certificate[:-40], MADE.key, "client_cert_file", "no certificate"),
        (MADE.certificate, b"", "client_key_file", "no private key"),
        (MADE.certificate, MADE.certificate, "client_key_file", "no private key"),
        (MADE.certificate, MADE.key[:-60], "client_key_file", "no private key"),
        (MADE.certificate, pair().key, "client_key_file", "not the key of"),
        (MADE.certificate, pair(password=b"x").key, "client_key_file", "encrypted"),
    ],
)
def test_halves_that_do_not_fit_are_refused(
    certificate: bytes, key: bytes, setting: str, what: str
) -> None:
    with pytest.raises(Unfit) as caught:
        read({"client_cert_file": certificate, "client_key_file": key})
    assert caught.value.setting == setting
    assert what in caught.value.what
    assert "hunter2" not in caught.value.what


def doubts(credential: Credential, now: dt.datetime) -> list[str]:
    found = [term.doubt(now) for term in credential.terms]
    return [doubt.what for doubt in found if doubt is not None]


def test_a_certificate_is_warned_of_thirty_days_ahead() -> None:
    found = read(contents_of(pair(begins=NOW, ends=NOW + 90 * DAY)))
    assert doubts(found, NOW + 59 * DAY) == []
    assert doubts(found, NOW + 60 * DAY) == ["ends at 2026-04-01T00:00:00Z"]
    assert doubts(found, NOW + 90 * DAY) == ["ended at 2026-04-01T00:00:00Z"]
    assert doubts(found, NOW - DAY) == ["is not good before 2026-01-01T00:00:00Z"]


def test_what_a_machine_renews_is_warned_of_when_the_machine_is_late() -> None:
    short = read(contents_of(pair(begins=NOW, ends=NOW + 10 * DAY)))
    assert doubts(short, NOW + 8 * DAY) == []
    assert len(doubts(short, NOW + 9 * DAY)) == 1
    at = NOW.timestamp()
    token = of_jwt({"iat": at, "exp": at + 3600})
    assert doubts(token, NOW + dt.timedelta(minutes=53)) == []
    assert len(doubts(token, NOW + dt.timedelta(minutes=54))) == 1
    for odd in ({"exp": at}, {"exp": at, "iat": at + 5}):
        assert doubts(of_jwt(odd), NOW - DAY) == []
        assert len(doubts(of_jwt(odd), NOW)) == 1


def test_no_secret_shows_and_fingerprints_differ() -> None:
    made = pair()
    found = [
        read({}, api_key=Secret(API_KEY)),
        read({}, api_key=Secret(API_KEY[:-1])),
        read(contents_of(made)),
        read(contents_of(made), api_key=Secret(API_KEY)),
        of_jwt({}),
    ]
    shown = f"{found!r} {found}"
    assert API_KEY not in shown
    assert "PRIVATE KEY" not in shown
    fingerprints = [credential.fingerprint for credential in found]
    assert len(set(fingerprints)) == len(found)
    assert {len(fingerprint) for fingerprint in fingerprints} == {8}

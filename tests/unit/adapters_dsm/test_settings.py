"""Settings: what could never work is refused, and no value is quoted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.adapters_dsm.support import KID

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret, as_kid


ENDPOINT = Endpoint.parse("https://eu.smartkey.io")


@pytest.mark.parametrize(
    ("text", "base_url", "authority", "port"),
    [
        ("https://eu.smartkey.io", "https://eu.smartkey.io", "eu.smartkey.io", 443),
        ("https://eu.smartkey.io//", "https://eu.smartkey.io", "eu.smartkey.io", 443),
        ("HTTPS://EU.smartkey.io/", "https://eu.smartkey.io", "eu.smartkey.io", 443),
        ("https://dsm.test:8443/", "https://dsm.test:8443", "dsm.test:8443", 8443),
        ("https://10.0.0.1", "https://10.0.0.1", "10.0.0.1", 443),
        ("https://dsm.4you.test1", "https://dsm.4you.test1", None, 443),
        ("https://dsm.test/dsm/", "https://dsm.test/dsm", "dsm.test", 443),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", None, 8443),
    ],
)
def test_an_endpoint_loses_its_slash(
    text: str, base_url: str, authority: str | None, port: int
) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint.base_url == base_url
    assert endpoint.authority == authority or authority is None
    assert endpoint.port == port
    assert endpoint.secure


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eu.smartkey.io",
        "ftp://eu.smartkey.io",
        "https://",
        "https://:443",
        "https://dsm.test:0",
        "https://dsm.test:99999",
        "https://dsm.test:abc",
        "https://[::1",
        "https://dsm test",
        "https://exa<mple.com",
        "https://-dsm.test",
        "https://dsm.test/<path>",
        'https://dsm.test/a"b',
        "https://dsm.test\\path",
        "https://dsm.test/\r\nX: y",
        "https://d\u00fcsseldorf.test",
        "https://999.1.1.1",
        "https://1.2.3",
        "https://10.1",
        "https://127.1.",
        "https://1.2.3.4.5",
        "https://0x7f.0.0.1",
        "https://dsm.0x1",
        "https://2130706433",
        "https://[::g]",
        "https://[1:2]",
        "https://user@dsm.test",
        "https://user:hunter2@dsm.test",
        "https://:hunter2@dsm.test",
        "https://dsm.test?hunter2",
        "https://dsm.test/#hunter2",
        "https://dsm.test?",
        "https://dsm.test#",
        "http://dsm.test",
        "http://127.0.0.1",
        "http://localhost:8080",
    ],
)
def test_an_odd_endpoint_is_refused_unquoted(text: str) -> None:
    with pytest.raises(ValueError, match="sdkms_endpoint must") as caught:
        Endpoint.parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_plain_http_needs_loopback_and_a_word(host: str) -> None:
    endpoint = Endpoint.parse(f"http://{host}:8080", allow_http=True)
    assert not endpoint.secure
    with pytest.raises(ValueError, match="https"):
        Endpoint.parse("http://10.0.0.1", allow_http=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        KID[:-1],
        KID + "0",
        f"{{{KID}}}",
        f"urn:uuid:{KID}",
        KID.replace("-", ""),
        KID.replace("4", "\u0664"),
        f" {KID}",
        f"{KID}\n",
    ],
)
def test_only_a_plain_uuid_is_a_kid(text: str) -> None:
    assert as_kid(text) is None
    with pytest.raises(ValueError, match="key_id must be a UUID"):
        KeySelector(kid=text)


def test_a_kid_is_kept_in_lower_case() -> None:
    assert KeySelector(kid=KID.upper()).kid == KID


def test_exactly_one_handle() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        KeySelector()
    with pytest.raises(ValueError, match="exactly one"):
        KeySelector(name="a", kid=KID)
    assert KeySelector(name="a").name == "a"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a" * 4097])
def test_an_odd_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="key_name must be one line"):
        KeySelector(name=name)


def settings(**changes: Any) -> DsmSettings:
    given: dict[str, Any] = {
        "endpoints": (ENDPOINT,),
        "selector": KeySelector(name="k"),
        "credential": CredentialSource(api_key=Secret("hunter2")),
    }
    return DsmSettings(**(given | changes))


@pytest.mark.parametrize("wrong", [{"max_connections": 0}, {"keepalive_s": -1.0}])
def test_limits_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings(**wrong)


def test_endpoints_are_few_and_different() -> None:
    other = Endpoint.parse("https://uk.smartkey.io/")
    assert settings(endpoints=(ENDPOINT, other)).endpoints == (ENDPOINT, other)
    many = [Endpoint.parse(f"https://dsm.test:{port}") for port in range(1, 10)]
    for wrong in ((), tuple(many)):
        with pytest.raises(ValueError, match="1 to 8 endpoints"):
            settings(endpoints=wrong)
    with pytest.raises(ValueError, match="more than once"):
        settings(endpoints=(ENDPOINT, other, Endpoint.parse("https://UK.smartkey.io")))


def test_a_secret_shows_nowhere() -> None:
    made = settings()
    assert "hunter2" not in f"{made!r} {made} {made.credential.api_key!s}"
    assert made.credential.api_key == Secret("hunter2")

import base64

import pytest
from tests.unit.dsm_emulator.proofs import Issued, issue

from dsm_emulator import Clock, DemoKey
from dsm_emulator.account import App
from dsm_emulator.credentials import AuthType, Credential, TrustedCa, certificate_der
from dsm_emulator.errors import DsmError
from dsm_emulator.login_rules import SessionCertificate


AUTHORITY = issue("authority", days=900)
OWN = issue("own", AUTHORITY, dns_name="plugin.test")
OTHER = issue("other", AUTHORITY)
FOREIGN = issue("own", dns_name="plugin.test")


def basic(app: App, secret: str = "") -> str:
    return "Basic " + base64.b64encode(f"{app.app_id}:{secret}".encode()).decode()


def certificate_app(demo: DemoKey, *, secret: bool = False) -> App:
    kind = AuthType.ALL if secret else AuthType.CERTIFICATE
    return demo.dsm.add_app(
        "mutual", credential=Credential(kind, certificate_der=OWN.der)
    )


def ca_app(demo: DemoKey, *subjects: str) -> App:
    trusted = TrustedCa((FOREIGN.der, AUTHORITY.der), subjects)
    return demo.dsm.add_app(
        "trusting", credential=Credential(AuthType.TRUSTED_CA, trusted_ca=trusted)
    )


def status_of_login(demo: DemoKey, header: str | None, shown: Issued | None) -> int:
    try:
        demo.dsm.logins.log_in(header, None if shown is None else shown.der)
    except DsmError as refused:
        return refused.status
    return 200


def test_certificate_logs_in_with_the_id_or_with_nothing(demo: DemoKey) -> None:
    app = certificate_app(demo)
    for header in (basic(app), None, ""):
        session = demo.dsm.logins.log_in(header, OWN.der)
        assert session.app_id == app.app_id


@pytest.mark.parametrize("shown", [None, OTHER, FOREIGN])
def test_another_certificate_or_none_is_401(
    demo: DemoKey, shown: Issued | None
) -> None:
    app = certificate_app(demo)
    assert status_of_login(demo, basic(app), shown) == 401
    assert status_of_login(demo, None, shown) == 401


def test_certificate_alone_takes_no_secret(demo: DemoKey) -> None:
    app = certificate_app(demo)
    assert status_of_login(demo, f"Basic {app.api_key}", OWN) == 401


def test_expired_certificate_fails_at_once(demo: DemoKey, clock: Clock) -> None:
    app = certificate_app(demo)
    assert status_of_login(demo, basic(app), OWN) == 200
    clock.advance(30 * 86400)
    assert status_of_login(demo, basic(app), OWN) == 401


def test_all_wants_both_at_once(demo: DemoKey) -> None:
    app = certificate_app(demo, secret=True)
    key = f"Basic {app.api_key}"
    assert status_of_login(demo, key, OWN) == 200
    assert status_of_login(demo, key, None) == 401
    assert status_of_login(demo, key, OTHER) == 401
    assert status_of_login(demo, basic(app), OWN) == 401
    assert status_of_login(demo, None, OWN) == 401


def test_bearer_call_has_to_present_the_certificate_again(demo: DemoKey) -> None:
    app = certificate_app(demo)
    logins = demo.dsm.logins
    bearer = f"Bearer {logins.log_in(basic(app), OWN.der).token}"
    assert logins.authenticate(bearer, OWN.der) is app
    for shown in (None, OTHER.der):
        for use in (logins.authenticate, logins.session_of, logins.log_in_again):
            with pytest.raises(DsmError) as refused:
                use(bearer, shown)
            assert refused.value.status == 401


def test_what_a_bearer_call_presents_is_a_switch(demo: DemoKey) -> None:
    app = ca_app(demo)
    logins = demo.dsm.logins
    bearer = f"Bearer {logins.log_in(basic(app), OWN.der).token}"
    logins.rules.session_certificate = SessionCertificate.REGISTERED
    assert logins.authenticate(bearer, OTHER.der) is app
    with pytest.raises(DsmError):
        logins.authenticate(bearer, None)
    logins.rules.session_certificate = SessionCertificate.NONE
    assert logins.authenticate(bearer, None) is app


def test_session_by_an_api_key_needs_no_certificate(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    bearer = f"Bearer {logins.log_in(f'Basic {demo.api_key}', OWN.der).token}"
    assert logins.authenticate(bearer) is demo.app


def test_certificate_proves_the_app_on_each_call_too(demo: DemoKey) -> None:
    app = certificate_app(demo)
    assert demo.dsm.logins.authenticate(basic(app), OWN.der) is app


def test_trusted_ca_takes_what_it_issued(demo: DemoKey) -> None:
    app = ca_app(demo)
    assert status_of_login(demo, basic(app), OWN) == 200
    assert status_of_login(demo, basic(app), OTHER) == 200
    assert status_of_login(demo, basic(app), issue("own")) == 401


@pytest.mark.parametrize("subject", ["CN=own", "plugin.test"])
def test_trusted_ca_takes_listed_subjects_alone(demo: DemoKey, subject: str) -> None:
    app = ca_app(demo, subject)
    assert status_of_login(demo, basic(app), OWN) == 200
    assert status_of_login(demo, basic(app), OTHER) == 401


def test_certificate_of_two_apps_names_none_of_them(demo: DemoKey) -> None:
    certificate_app(demo)
    assert status_of_login(demo, None, OWN) == 200
    ca_app(demo)
    assert status_of_login(demo, None, OWN) == 401


def test_disabled_app_is_shut_out_with_its_certificate(demo: DemoKey) -> None:
    app = certificate_app(demo)
    app.enabled = False
    assert status_of_login(demo, basic(app), OWN) == 401


def test_tls_server_learns_whom_to_trust(demo: DemoKey) -> None:
    assert demo.dsm.client_trust() == []
    before = demo.dsm.revision
    certificate_app(demo)
    ca_app(demo)
    assert demo.dsm.revision > before
    assert demo.dsm.client_trust() == [OWN.der, FOREIGN.der, AUTHORITY.der]


@pytest.mark.parametrize(
    ("address", "status"), [("10.1.2.3", 200), ("10.2.0.1", 403), (None, 403)]
)
def test_ip_policy_lists_networks(
    demo: DemoKey, address: str | None, status: int
) -> None:
    key = f"Basic {demo.api_key}"
    bearer = f"Bearer {demo.dsm.logins.log_in(key).token}"
    demo.app.ip_whitelist = ("10.1.0.0/16", "::1")
    for header in (key, bearer):
        try:
            demo.dsm.logins.authenticate(header, None, address)
            answered = 200
        except DsmError as refused:
            answered = refused.status
        assert answered == status


def test_certificate_is_read_from_pem(demo: DemoKey) -> None:
    assert certificate_der(OWN.pem) == OWN.der
    with pytest.raises(ValueError, match="PEM"):
        certificate_der("none")


@pytest.mark.parametrize(
    ("kind", "certificate"),
    [
        (AuthType.SECRET, OWN.der),
        (AuthType.CERTIFICATE, None),
        (AuthType.CERTIFICATE, b"none"),
        (AuthType.TRUSTED_CA, OWN.der),
        (AuthType.SIGNED_JWT, None),
        (AuthType.ALL, None),
    ],
)
def test_credential_whose_content_is_of_another_kind_is_refused(
    kind: AuthType, certificate: bytes | None
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - cryptography's own text in one case
        Credential(kind, certificate_der=certificate)


@pytest.mark.parametrize(("authorities", "subjects"), [(0, 0), (17, 0), (1, 17)])
def test_trusted_ca_has_limits(authorities: int, subjects: int) -> None:
    with pytest.raises(ValueError, match="16"):
        TrustedCa((AUTHORITY.der,) * authorities, ("CN=x",) * subjects)

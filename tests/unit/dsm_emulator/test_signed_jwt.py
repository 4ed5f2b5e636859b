import base64
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.dsm_emulator.proofs import issue, make_jwt, public_der

from dsm_emulator import Clock, DemoKey
from dsm_emulator.account import App, Permission
from dsm_emulator.credentials import AuthType, Credential
from dsm_emulator.errors import DsmError
from dsm_emulator.login_rules import JwtSubject, JwtTransport
from dsm_emulator.signed_jwt import JwtCredential


EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ISSUER = "https://issuer.test"
TRUSTED = JwtCredential(
    frozenset({ISSUER}),
    {"k1": public_der(EC), "k2": public_der(RSA), "k3": public_der(EC_384)},
)


def jwt_app(demo: DemoKey, certificate: bytes | None = None) -> App:
    kind = AuthType.SIGNED_JWT if certificate is None else AuthType.ALL
    credential = Credential(kind, certificate_der=certificate, signed_jwt=TRUSTED)
    return demo.dsm.add_app("workload", credential=credential)


def claims(app: App, clock: Clock, **changes: Any) -> dict[str, Any]:
    exp = clock.now() + 600
    return {"iss": ISSUER, "sub": app.app_id, "exp": exp, **changes}


def is_taken(demo: DemoKey, token: str, certificate: bytes | None = None) -> bool:
    try:
        demo.dsm.logins.log_in(f"Bearer {token}", certificate)
    except DsmError:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [
        (EC, "k1", "ES256"),
        (EC_384, "k3", "ES384"),
        (RSA, "k2", "RS256"),
        (RSA, "k2", "RS512"),
        (RSA, "k2", "PS256"),
    ],
)
def test_signed_token_logs_its_subject_in(
    demo: DemoKey, clock: Clock, *, key: Any, kid: str, algorithm: str
) -> None:
    app = jwt_app(demo)
    token = make_jwt(key, claims(app, clock), algorithm=algorithm, kid=kid)
    assert demo.dsm.logins.named_app(f"Bearer {token}") == app.app_id
    session = demo.dsm.logins.log_in(f"Bearer {token}")
    assert session.app_id == app.app_id
    assert demo.dsm.logins.authenticate(f"Bearer {session.token}") is app


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.test"},
        {"sub": "nobody"},
        {"sub": 7},
        {"exp": 1},
        {"exp": None},
        {"exp": True},
        {"nbf": 1e12},
    ],
)
def test_token_with_a_wrong_claim_is_401(
    demo: DemoKey, clock: Clock, changes: dict[str, Any]
) -> None:
    app = jwt_app(demo)
    token = make_jwt(EC, claims(app, clock, **changes), algorithm="ES256")
    assert not is_taken(demo, token)


def test_token_expires_by_the_emulators_clock(demo: DemoKey, clock: Clock) -> None:
    token = make_jwt(EC, claims(jwt_app(demo), clock), algorithm="ES256")
    assert is_taken(demo, token)
    clock.advance(600)
    assert not is_taken(demo, token)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "k1", "ES256"),
        (EC, "unknown", "ES256"),
        (EC, "k2", "ES256"),
        (EC_384, "k1", "ES384"),
        (RSA, "k1", "RS256"),
    ],
)
def test_token_of_another_key_is_401(
    demo: DemoKey, clock: Clock, *, key: Any, kid: str, algorithm: str
) -> None:
    token = make_jwt(key, claims(jwt_app(demo), clock), algorithm=algorithm, kid=kid)
    assert not is_taken(demo, token)


@pytest.mark.parametrize("token", ["a.b", "a.b.c", "W10.W10.", "e30.e30.", "e30.e30.e"])
def test_what_is_no_token_is_401(demo: DemoKey, token: str) -> None:
    jwt_app(demo)
    assert not is_taken(demo, token)


def test_secret_of_a_jwt_app_opens_nothing(demo: DemoKey) -> None:
    app = jwt_app(demo)
    with pytest.raises(DsmError) as refused:
        demo.dsm.logins.log_in(f"Basic {app.api_key}")
    assert refused.value.status == 401


def test_token_of_an_api_key_app_is_401(demo: DemoKey, clock: Clock) -> None:
    assert not is_taken(demo, make_jwt(EC, claims(demo.app, clock), algorithm="ES256"))


def test_token_is_no_session(demo: DemoKey, clock: Clock) -> None:
    token = make_jwt(EC, claims(jwt_app(demo), clock), algorithm="ES256")
    with pytest.raises(DsmError, match="Session does not exist"):
        demo.dsm.logins.authenticate(f"Bearer {token}")


def test_all_takes_token_and_certificate_together(demo: DemoKey, clock: Clock) -> None:
    own = issue("own").der
    app = jwt_app(demo, own)
    token = make_jwt(EC, claims(app, clock), algorithm="ES256")
    assert is_taken(demo, token, own)
    assert not is_taken(demo, token)
    assert not is_taken(demo, token, issue("own").der)


def test_transport_is_a_switch(demo: DemoKey, clock: Clock) -> None:
    app = jwt_app(demo)
    token = make_jwt(EC, claims(app, clock), algorithm="ES256")
    basic = base64.b64encode(f"{app.app_id}:{token}".encode()).decode()
    with pytest.raises(DsmError):
        demo.dsm.logins.log_in(f"Basic {basic}")
    demo.dsm.logins.rules.jwt_transport = JwtTransport.BASIC
    assert not is_taken(demo, token)
    assert demo.dsm.logins.log_in(f"Basic {basic}").app_id == app.app_id


def test_subject_may_be_the_name(demo: DemoKey, clock: Clock) -> None:
    app = jwt_app(demo)
    token = make_jwt(EC, claims(app, clock, sub="workload"), algorithm="ES256")
    assert not is_taken(demo, token)
    demo.dsm.logins.rules.jwt_subject = JwtSubject.NAME
    assert is_taken(demo, token)
    jwt_app(demo)
    assert not is_taken(demo, token)


def test_signing_key_is_rsa_or_ec() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="RSA"):
        JwtCredential(frozenset(), {"k": der})


def test_token_opens_a_session_on_the_wire(
    stranger: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    app = jwt_app(demo)
    demo.dsm.grant(app, demo.group, frozenset({Permission.ENCRYPT}))
    token = make_jwt(EC, claims(app, clock), algorithm="ES256")
    opened = stranger.post(
        "/sys/v1/session/auth", headers={"Authorization": f"Bearer {token}"}
    ).json()
    shown = stranger.post(
        "/crypto/v1/keys/info",
        json={"name": "kek"},
        headers={"Authorization": f"Bearer {opened['access_token']}"},
    ).json()
    assert opened["entity_id"] == app.app_id
    assert shown["effective_key_policy"] == {"key_ops": ["ENCRYPT"]}

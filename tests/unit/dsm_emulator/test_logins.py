import base64

import pytest

from dsm_emulator import Clock, DemoKey
from dsm_emulator.account import App
from dsm_emulator.errors import DsmError


def basic(app_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{app_id}:{secret}".encode()).decode()


def test_api_key_is_base64_of_id_and_a_secret_of_64_bytes(demo: DemoKey) -> None:
    app_id, secret = base64.b64decode(demo.api_key, validate=True).decode().split(":")
    assert app_id == demo.app.app_id
    assert len(demo.api_key) == 164
    assert len(base64.urlsafe_b64decode(secret + "==")) == 64


def test_no_repr_shows_a_secret(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    session = logins.log_in(f"Basic {demo.api_key}")
    old_secret = demo.app.secret
    demo.dsm.reset_secret(demo.app, 60)
    assert demo.key.material is not None
    shown = repr(demo) + repr(session) + repr(demo.app.previous)
    for secret in (
        old_secret,
        demo.app.secret,
        demo.admin.secret,
        session.token,
        repr(demo.key.material),
    ):
        assert secret not in shown
    assert "***" in shown


def test_key_and_session_prove_the_app(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    key = f"basic {demo.api_key}"
    token = logins.log_in(key).token
    assert logins.authenticate(key) is demo.app
    assert logins.authenticate(f"bearer {token}") is demo.app
    assert logins.named_app(key) == demo.app.app_id
    assert logins.named_app(f"Bearer {token}") == demo.app.app_id


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Basic !", "Basic AAAA", "Digest x", "Bearer x"],
)
def test_unknown_credential_names_nobody_and_is_401(
    demo: DemoKey, authorization: str | None
) -> None:
    logins = demo.dsm.logins
    assert logins.named_app(authorization) is None
    for prove in (logins.authenticate, logins.log_in, logins.session_of):
        with pytest.raises(DsmError) as refused:
            prove(authorization)
        assert refused.value.status == 401


def test_failed_logins_are_counted_by_app(demo: DemoKey) -> None:
    logins, failed = demo.dsm.logins, demo.dsm.journal.failed_logins
    for authorization in (
        basic(demo.app.app_id, "wrong"),
        basic(demo.app.app_id, ""),
        basic("nobody", "wrong"),
    ):
        assert logins.named_app(authorization) in {None, demo.app.app_id}
        with pytest.raises(DsmError):
            logins.log_in(authorization)
    assert failed == {demo.app.app_id: 2, None: 1}


def test_disabled_app_is_shut_out_with_key_and_session(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    token = logins.log_in(f"Basic {demo.api_key}").token
    demo.app.enabled = False
    for authorization in (f"Basic {demo.api_key}", f"Bearer {token}"):
        with pytest.raises(DsmError) as refused:
            logins.authenticate(authorization)
        assert refused.value.status == 401


def test_idle_session_ends_and_a_used_one_does_not(demo: DemoKey, clock: Clock) -> None:
    logins = demo.dsm.logins
    used = logins.log_in(f"Basic {demo.api_key}").token
    idle = logins.log_in(f"Basic {demo.api_key}").token
    assert len(used) == 86
    for _ in range(3):
        clock.advance(599)
        logins.authenticate(f"Bearer {used}")
    with pytest.raises(DsmError, match="Session does not exist") as refused:
        logins.authenticate(f"Bearer {idle}")
    assert refused.value.status == 401


def test_naming_the_app_does_not_prolong_its_session(
    demo: DemoKey, clock: Clock
) -> None:
    logins = demo.dsm.logins
    token = logins.log_in(f"Basic {demo.api_key}").token
    clock.advance(599)
    logins.named_app(f"Bearer {token}")
    clock.advance(1)
    with pytest.raises(DsmError):
        logins.authenticate(f"Bearer {token}")


def test_ended_sessions_are_forgotten_at_the_next_login(
    demo: DemoKey, clock: Clock
) -> None:
    logins = demo.dsm.logins
    logins.log_in(f"Basic {demo.api_key}")
    clock.advance(600)
    logins.log_in(f"Basic {demo.api_key}")
    assert len(logins.sessions) == 1


def test_lost_session_can_be_403(demo: DemoKey) -> None:
    demo.dsm.logins.lost_session_status = 403
    with pytest.raises(DsmError, match="Session does not exist") as refused:
        demo.dsm.logins.authenticate("Bearer x")
    assert refused.value.status == 403


def test_killed_sessions_are_counted(demo: DemoKey) -> None:
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    demo.dsm.logins.log_in(f"Basic {demo.admin_api_key}")
    assert demo.dsm.kill_sessions() == 2
    assert demo.dsm.kill_sessions() == 0


def test_reset_ends_key_and_sessions_of_that_app_at_once(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    old = f"Basic {demo.api_key}"
    token = logins.log_in(old).token
    admin_token = logins.log_in(f"Basic {demo.admin_api_key}").token
    new = demo.dsm.reset_secret(demo.app)
    assert logins.authenticate(f"Basic {new}") is demo.app
    assert logins.authenticate(f"Bearer {admin_token}") is demo.admin
    for authorization in (old, f"Bearer {token}"):
        with pytest.raises(DsmError):
            logins.authenticate(authorization)


def test_reset_with_migration_keeps_both_until_its_end(
    demo: DemoKey, clock: Clock
) -> None:
    logins = demo.dsm.logins
    old = f"Basic {demo.api_key}"
    old_session = f"Bearer {logins.log_in(old).token}"
    admin_session = f"Bearer {logins.log_in(f'Basic {demo.admin_api_key}').token}"
    new = f"Basic {demo.dsm.reset_secret(demo.app, 60)}"
    new_session = f"Bearer {logins.log_in(new).token}"
    clock.advance(59)
    for authorization in (old, old_session, new, new_session, admin_session):
        logins.authenticate(authorization)
    clock.advance(1)
    for authorization in (new, new_session, admin_session):
        logins.authenticate(authorization)
    for authorization in (old, old_session):
        with pytest.raises(DsmError):
            logins.authenticate(authorization)


def test_app_without_a_group_has_no_default_one() -> None:
    assert App("lonely").default_group is None


def test_session_may_have_a_longest_life(demo: DemoKey, clock: Clock) -> None:
    logins = demo.dsm.logins
    logins.sessions.max_life_s = 1000
    bearer = f"Bearer {logins.log_in(f'Basic {demo.api_key}').token}"
    clock.advance(500)
    logins.authenticate(bearer)
    clock.advance(500)
    with pytest.raises(DsmError, match="Session does not exist"):
        logins.authenticate(bearer)

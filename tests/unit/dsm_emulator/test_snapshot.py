import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.dsm_emulator.proofs import issue, public_der

from dsm_emulator import Clock, Condition, DemoKey, Dsm, Operation
from dsm_emulator.account import Permission
from dsm_emulator.aes_options import AesOptions
from dsm_emulator.credentials import AuthType, Credential, TrustedCa
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.signed_jwt import JwtCredential
from dsm_emulator.snapshot import export_state, import_state
from dsm_emulator.sobject import KeyState


def reborn(demo: DemoKey, *, sessions: bool = False) -> Dsm:
    """Return a new model that went through a file."""
    text = json.dumps(export_state(demo.dsm, sessions=sessions))
    dsm = Dsm(clock=Clock(demo.dsm.clock.now()))
    import_state(dsm, json.loads(text))
    return dsm


def fill(demo: DemoKey) -> None:
    """Bring about something of everything."""
    dsm, own = demo.dsm, issue("own").der
    keys = {"k": public_der(ec.generate_private_key(ec.SECP256R1()))}
    jwt = JwtCredential(frozenset({"issuer"}), keys)
    trusted = TrustedCa((own,), ("CN=x",))
    for credential in (
        Credential(AuthType.CERTIFICATE, certificate_der=own),
        Credential(AuthType.TRUSTED_CA, trusted_ca=trusted),
        Credential(AuthType.SIGNED_JWT, signed_jwt=jwt),
        Credential(AuthType.ALL, trusted_ca=trusted),
        Credential(AuthType.ALL, certificate_der=own, signed_jwt=jwt),
    ):
        dsm.add_app("app", credential=credential)
    dsm.reset_secret(demo.app, 60)
    demo.app.ip_whitelist = ("10.0.0.0/8",)
    demo.app.description = "plugin"
    demo.group.protect_crypto_operations = True
    dsm.keys.set_rotation_policy(demo.key, RotationPolicy(interval_months=1))
    new = dsm.rekey("kek", deactivate_rotated_key=True)
    new.aes = AesOptions(random_iv=True)
    new.custom_metadata = {"a": "b"}
    dsm.keys.revoke(dsm.rekey("kek"), "KeyCompromise", "why")
    dsm.destroy(dsm.rekey("kek"))
    dsm.delete(dsm.rekey("kek"))


def test_state_is_the_same_after_a_restart(demo: DemoKey) -> None:
    fill(demo)
    demo.dsm.logins.log_in(f"Basic {demo.api_key}", None, "10.0.0.1")
    state = export_state(demo.dsm, sessions=True)
    assert export_state(reborn(demo, sessions=True), sessions=True) == state
    assert state["version"] == 1
    assert len(state["sessions"]) == 1


def test_old_data_decrypt_after_a_restart(demo: DemoKey) -> None:
    sealed = demo.dsm.encrypt(demo.app, demo.key, "GCM", b"seed", tag_bits=128)
    dsm = reborn(demo)
    app = dsm.logins.authenticate(f"Basic {demo.api_key}")
    key = dsm.key(kid=demo.key.kid)
    plain = dsm.decrypt(app, key, "GCM", sealed.cipher, iv=sealed.iv, tag=sealed.tag)
    assert plain == b"seed"


@pytest.mark.parametrize("sessions", [False, True])
def test_sessions_survive_if_they_are_kept(demo: DemoKey, *, sessions: bool) -> None:
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    assert len(reborn(demo, sessions=sessions).sessions) == sessions


def test_rotation_that_was_due_meanwhile_has_happened(
    demo: DemoKey, clock: Clock
) -> None:
    demo.dsm.keys.set_rotation_policy(demo.key, RotationPolicy(interval_days=1))
    text = json.dumps(export_state(demo.dsm))
    dsm = Dsm(clock=Clock(clock.now() + 86_400))
    import_state(dsm, json.loads(text))
    assert dsm.key(name="kek").replaced == demo.key.kid


def test_switches_are_kept(demo: DemoKey) -> None:
    demo.dsm.account.mark_key_disable_when_deactivated = True
    demo.dsm.table.set(Condition.DISABLED, Operation.DECRYPT, 418)
    state = export_state(demo.dsm)
    assert state["switches"] == {
        "disable-when-deactivated": True,
        "cell.disabled.decrypt": 418,
    }
    dsm = reborn(demo)
    assert dsm.account.mark_key_disable_when_deactivated
    assert dsm.table.status(Condition.DISABLED, Operation.DECRYPT) == 418


def test_import_replaces_what_was_there(demo: DemoKey, clock: Clock) -> None:
    other = Dsm.with_demo_key("other", clock=clock)
    other.dsm.logins.log_in(f"Basic {other.api_key}")
    other.dsm.logins.fips = True
    revision = other.dsm.revision
    import_state(other.dsm, export_state(demo.dsm))
    assert export_state(other.dsm, sessions=True) == export_state(
        demo.dsm, sessions=True
    )
    assert other.dsm.revision > revision


def test_deleted_key_does_not_take_its_name_back(demo: DemoKey) -> None:
    demo.dsm.delete(demo.key)
    dsm = reborn(demo)
    assert dsm.key(kid=demo.key.kid).state is KeyState.DELETED
    assert dsm.keys.by_kid(demo.key.kid).material is None
    assert demo.key.name not in {
        key.name for key in dsm.keys if key.state is not KeyState.DELETED
    }


def _damaged(state: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    return state | {field: value}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("keys", [{}]),
        ("keys", 1),
        ("apps", [{"name": "x"}]),
        ("groups", [{"odd": 1}]),
        ("switches", {"unknown": 1}),
        ("switches", {"fips": "yes"}),
        ("operations", "many"),
        ("sessions", [1]),
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(
    demo: DemoKey, *, field: str, value: Any
) -> None:
    before = export_state(demo.dsm, sessions=True)
    with pytest.raises(ValueError, match=r"^(not a state|the state is damaged)") as no:
        import_state(demo.dsm, _damaged(before, field, value))
    assert demo.app.secret not in str(no.value)
    assert export_state(demo.dsm, sessions=True) == before


def test_material_of_another_length_is_refused(demo: DemoKey) -> None:
    state = export_state(demo.dsm)
    state["keys"][0]["key_size"] = 128
    with pytest.raises(ValueError, match="damaged"):
        import_state(demo.dsm, state)


@pytest.mark.parametrize(
    ("folder", "field"),
    [("keys", "kid"), ("keys", "material"), ("keys", "state"), ("apps", "app_id")],
)
def test_state_with_a_gap_is_refused(demo: DemoKey, *, folder: str, field: str) -> None:
    state = export_state(demo.dsm)
    del state[folder][0][field]
    with pytest.raises(ValueError, match="damaged"):
        import_state(demo.dsm, state)


def test_what_is_no_object_is_refused(demo: DemoKey) -> None:
    with pytest.raises(ValueError, match="version"):
        import_state(demo.dsm, [])


def test_permissions_survive(demo: DemoKey) -> None:
    dsm = reborn(demo)
    app = dsm.logins.apps[demo.app.app_id]
    assert app.groups == {
        demo.group.group_id: frozenset({Permission.ENCRYPT, Permission.DECRYPT})
    }

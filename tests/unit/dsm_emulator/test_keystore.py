from collections.abc import Callable

import pytest

from dsm_emulator import Clock, DemoKey
from dsm_emulator.clock import basic_iso
from dsm_emulator.errors import DsmError
from dsm_emulator.sobject import KeyOp, KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest


@pytest.fixture
def create(demo: DemoKey) -> Callable[[SobjectRequest], Sobject]:
    def create(request: SobjectRequest) -> Sobject:
        return demo.dsm.create_key(
            request, creator=demo.admin, group_id=demo.group.group_id
        )

    return create


@pytest.mark.parametrize("size", [128, 192, 256])
def test_generated_key_is_active_and_enabled(
    create: Callable[[SobjectRequest], Sobject], size: int
) -> None:
    key = create(SobjectRequest(name="k", key_size=size))
    assert key.material is not None
    assert len(key.material) * 8 == size
    assert (key.state, key.enabled, key.origin) == (
        KeyState.ACTIVE,
        True,
        "FortanixHSM",
    )


def test_imported_key_has_the_given_material(
    create: Callable[[SobjectRequest], Sobject],
) -> None:
    key = create(SobjectRequest(name="k", value=bytes(16)))
    assert (key.material, key.key_size, key.origin) == (bytes(16), 128, "External")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (SobjectRequest(key_size=256), 400),
        (SobjectRequest(name="k"), 400),
        (SobjectRequest(name="k", key_size=256, value=bytes(16)), 400),
        (SobjectRequest(name="kek", key_size=256), 409),
    ],
)
def test_key_that_cannot_be_made_is_refused(
    create: Callable[[SobjectRequest], Sobject], request_: SobjectRequest, status: int
) -> None:
    with pytest.raises(DsmError) as refused:
        create(request_)
    assert refused.value.status == status


def test_dates_move_the_state_without_a_call(
    create: Callable[[SobjectRequest], Sobject], demo: DemoKey, clock: Clock
) -> None:
    now_s = clock.now()
    kid = create(
        SobjectRequest(
            name="k",
            key_size=256,
            activation_date=now_s + 10,
            deactivation_date=now_s + 20,
        )
    ).kid
    states = []
    for _ in range(3):
        states.append(demo.dsm.key(kid=kid).state)
        clock.advance(10)
    assert states == [KeyState.PREACTIVE, KeyState.ACTIVE, KeyState.DEACTIVATED]
    assert demo.dsm.key(kid=kid).enabled


def test_deactivation_by_date_disables_where_the_account_says_so(
    create: Callable[[SobjectRequest], Sobject], demo: DemoKey, clock: Clock
) -> None:
    demo.dsm.account.mark_key_disable_when_deactivated = True
    create(SobjectRequest(name="k", key_size=256, deactivation_date=clock.now() + 10))
    clock.advance(10)
    assert not demo.dsm.key(name="k").enabled


def test_activation_is_for_preactive_keys_alone(
    create: Callable[[SobjectRequest], Sobject], demo: DemoKey, clock: Clock
) -> None:
    key = create(
        SobjectRequest(name="k", key_size=256, activation_date=clock.now() + 10)
    )
    demo.dsm.activate(key)
    assert key.state is KeyState.ACTIVE
    with pytest.raises(DsmError):
        demo.dsm.activate(key)


def test_kid_is_found_in_any_spelling_of_the_uuid(demo: DemoKey) -> None:
    assert demo.dsm.key(kid=demo.key.kid.upper()) is demo.key


@pytest.mark.parametrize(
    ("kid", "status"),
    [("not-a-uuid", 400), ("00000000-0000-0000-0000-000000000000", 404)],
)
def test_unknown_kid_is_404_and_a_malformed_one_400(
    demo: DemoKey, kid: str, status: int
) -> None:
    with pytest.raises(DsmError) as refused:
        demo.dsm.key(kid=kid)
    assert refused.value.status == status


def test_unknown_name_and_no_description_are_404(demo: DemoKey) -> None:
    for described in ({"name": "other"}, {}):
        with pytest.raises(DsmError, match="sobject does not exist"):
            demo.dsm.key(**described)


def test_rekey_moves_the_name_and_links_both_ways(demo: DemoKey) -> None:
    old = demo.key
    new = demo.dsm.rekey("kek")
    assert demo.dsm.key(name="kek") is new
    assert new.kid != old.kid
    assert new.material != old.material
    assert old.name == "kek (rotated at 20231114T221320Z)"
    assert demo.dsm.key(name=old.name) is old
    assert new.as_json()["links"] == {"replaced": old.kid}
    assert old.as_json()["links"] == {"replacement": new.kid}
    assert old.state is KeyState.ACTIVE


def test_rekeys_within_a_second_do_not_collide(demo: DemoKey) -> None:
    newer = [demo.dsm.rekey("kek") for _ in range(3)]
    names = {key.name for key in (demo.key, *newer)}
    assert len(names) == 4
    assert newer[1].as_json()["links"] == {
        "replaced": newer[0].kid,
        "replacement": newer[2].kid,
    }


def test_rekey_keeps_the_metadata_that_it_does_not_change(demo: DemoKey) -> None:
    keys = demo.dsm.keys
    old = keys.change(
        demo.key,
        SobjectRequest(
            description="the KEK",
            custom_metadata={"cluster": "a"},
            key_ops=(KeyOp.ENCRYPT, KeyOp.DECRYPT),
        ),
    )
    keys.revoke(old, "Superseded")
    new = keys.rekey(old, SobjectRequest(), creator_app_id=demo.admin.app_id)
    assert (new.description, new.custom_metadata, new.key_ops) == (
        "the KEK",
        {"cluster": "a"},
        (KeyOp.ENCRYPT, KeyOp.DECRYPT),
    )
    assert new.state is KeyState.ACTIVE
    assert new.revocation_reason is None
    assert new.custom_metadata is not old.custom_metadata


def test_rekey_overrides_what_it_names(demo: DemoKey) -> None:
    new = demo.dsm.keys.rekey(
        demo.key,
        SobjectRequest(
            description="new",
            custom_metadata={},
            enabled=False,
            key_ops=(KeyOp.DECRYPT,),
            value=bytes(16),
            activation_date=0,
        ),
        creator_app_id=demo.admin.app_id,
    )
    assert (new.description, new.enabled, new.key_ops) == (
        "new",
        False,
        (KeyOp.DECRYPT,),
    )
    assert (new.material, new.key_size, new.origin) == (bytes(16), 128, "External")


@pytest.mark.parametrize("disables", [False, True])
def test_rekey_can_deactivate_the_old_key(demo: DemoKey, disables: bool) -> None:  # noqa: FBT001
    demo.dsm.account.mark_key_disable_when_deactivated = disables
    demo.dsm.rekey("kek", deactivate_rotated_key=True)
    assert demo.key.state is KeyState.DEACTIVATED
    assert demo.key.enabled is not disables
    assert demo.dsm.key(name="kek").enabled


def test_replace_can_move_a_name_back(demo: DemoKey) -> None:
    new = demo.dsm.rekey("kek")
    demo.dsm.keys.replace(new, "kek (abandoned)", demo.key)
    assert demo.dsm.key(name="kek") is demo.key
    assert new.name == "kek (abandoned)"
    assert demo.key.replaced == new.kid
    assert new.replacement == demo.key.kid


def test_compromise_is_not_deactivation(demo: DemoKey) -> None:
    demo.dsm.compromise(demo.key)
    shown = demo.key.as_json()
    assert shown["state"] == "Compromised"
    assert shown["revocation_reason"] == {"code": "KeyCompromise"}
    assert shown["compromise_date"] == "20231114T221320Z"
    assert "deactivation_date" not in shown


def test_destroyed_key_keeps_its_name_and_metadata(demo: DemoKey, clock: Clock) -> None:
    demo.dsm.destroy(demo.key)
    assert demo.dsm.key(name="kek") is demo.key
    assert demo.key.material is None
    assert demo.key.as_json()["destruction_date"] == basic_iso(clock.now())


def test_deleted_key_frees_its_name_once(
    create: Callable[[SobjectRequest], Sobject], demo: DemoKey
) -> None:
    demo.dsm.delete(demo.key)
    again = create(SobjectRequest(name="kek", key_size=256))
    assert demo.dsm.key(name="kek") is again
    assert demo.dsm.key(kid=demo.key.kid).state is KeyState.DELETED
    with pytest.raises(DsmError):
        demo.dsm.delete(demo.key)


def test_shown_key_has_what_dsm_always_shows(demo: DemoKey) -> None:
    shown = demo.key.as_json()
    required = {
        "acct_id",
        "created_at",
        "creator",
        "enabled",
        "key_ops",
        "obj_type",
        "origin",
        "public_only",
    }
    assert required <= shown.keys()
    assert shown["creator"] == {"app": demo.admin.app_id}
    assert None not in shown.values()
    assert not {"description", "links", "revocation_reason"} & shown.keys()

from typing import TYPE_CHECKING

import pytest

from dsm_emulator import DemoKey
from dsm_emulator.account import Permission
from dsm_emulator.errors import DsmError


if TYPE_CHECKING:
    from collections.abc import Callable


def can_encrypt(demo: DemoKey) -> bool:
    try:
        demo.dsm.encrypt(demo.app, demo.key, "GCM", b"", tag_bits=128)
    except DsmError as refused:
        if refused.status == 403:
            return False
        raise
    return True


def test_permission_is_withdrawn_and_granted_at_run_time(demo: DemoKey) -> None:
    encrypt = frozenset({Permission.ENCRYPT})
    demo.dsm.withdraw(demo.app, demo.group, encrypt)
    assert not can_encrypt(demo)
    demo.dsm.grant(demo.app, demo.group, encrypt)
    assert can_encrypt(demo)


def test_app_leaves_and_enters_a_group_at_run_time(demo: DemoKey) -> None:
    demo.dsm.withdraw(demo.app, demo.group)
    assert not can_encrypt(demo)
    with pytest.raises(DsmError, match="not a member"):
        demo.dsm.withdraw(demo.app, demo.group)
    demo.dsm.grant(demo.app, demo.group, frozenset({Permission.ENCRYPT}))
    assert can_encrypt(demo)


def test_deleted_app_has_no_session_left(demo: DemoKey) -> None:
    bearer = f"Bearer {demo.dsm.logins.log_in(f'Basic {demo.api_key}').token}"
    demo.dsm.delete_app(demo.app)
    for header in (bearer, f"Basic {demo.api_key}"):
        with pytest.raises(DsmError) as refused:
            demo.dsm.logins.authenticate(header)
        assert refused.value.status == 401


def test_key_of_a_deleted_group_is_out_of_reach(demo: DemoKey) -> None:
    demo.dsm.delete_group(demo.group)
    assert not can_encrypt(demo)


def test_each_change_moves_the_revision(demo: DemoKey) -> None:
    dsm, app, group = demo.dsm, demo.app, demo.group
    extra = dsm.add_app("extra")
    export = frozenset({Permission.EXPORT})
    changes: list[Callable[[], object]] = [
        lambda: dsm.add_group("g"),
        lambda: dsm.grant(app, group, export),
        lambda: dsm.withdraw(app, group, export),
        lambda: dsm.set_app_enabled(app, enabled=False),
        lambda: dsm.reset_secret(app),
        lambda: dsm.delete_app(extra),
        lambda: dsm.rename(demo.key, "other"),
        lambda: dsm.rekey("other"),
        lambda: dsm.disable(demo.key),
        lambda: dsm.enable(demo.key),
        lambda: dsm.deactivate(demo.key),
        lambda: dsm.undo(demo.key),
        lambda: dsm.replace(dsm.key(name="other"), "gone", demo.key),
        lambda: dsm.destroy(demo.key),
        lambda: dsm.delete(demo.key),
        lambda: dsm.delete_group(group),
    ]
    for change in changes:
        before = dsm.revision
        change()
        assert dsm.revision > before
    unchanged = dsm.revision
    dsm.logins.log_in(f"Basic {demo.admin_api_key}")
    assert dsm.revision == unchanged


def test_key_does_not_replace_itself(demo: DemoKey) -> None:
    with pytest.raises(DsmError, match="itself"):
        demo.dsm.replace(demo.key, "x", demo.key)

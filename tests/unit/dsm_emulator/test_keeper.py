import json
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsm_emulator import Clock, DemoKey, Dsm, EmulatorServer
from dsm_emulator.keeper import STATE, Keeper, Seeded, StateDamaged, take_up
from dsm_emulator.sobject import KeyState


def seeded_by(demo: DemoKey) -> Seeded:
    return Seeded(
        demo.app.app_id, demo.admin.app_id, demo.group.group_id, demo.key.name
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / STATE


@pytest.fixture
def keeper(demo: DemoKey, path: Path) -> Keeper:
    return Keeper(demo.dsm, path, seeded_by(demo))


def taken_up(path: Path, *, sessions: bool = True) -> Dsm:
    dsm = Dsm(clock=Clock(1_700_000_000.0))
    assert take_up(path, dsm, sessions=sessions) is not None
    return dsm


def test_keys_apps_and_sessions_are_there_again(
    demo: DemoKey, keeper: Keeper, path: Path
) -> None:
    token = demo.dsm.logins.log_in(f"Basic {demo.api_key}").token
    keeper.save()
    dsm = taken_up(path)
    assert dsm.key(name="kek").kid == demo.key.kid
    assert dsm.key(name="kek").material == demo.key.material
    assert dsm.logins.session_of(f"Bearer {token}").app_id == demo.app.app_id
    assert take_up(path, Dsm(), sessions=True) == seeded_by(demo)


def test_sessions_can_be_lost_and_the_keys_stay(
    demo: DemoKey, keeper: Keeper, path: Path
) -> None:
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    keeper.save()
    dsm = taken_up(path, sessions=False)
    assert list(dsm.sessions) == []
    assert dsm.logins.log_in(f"Basic {demo.api_key}").app_id == demo.app.app_id


def test_clock_and_switches_are_as_they_were(
    demo: DemoKey, keeper: Keeper, path: Path
) -> None:
    demo.dsm.clock.advance(86_400)
    demo.dsm.headers.profiling = True
    demo.dsm.account.mark_key_disable_when_deactivated = True
    keeper.save()
    dsm = taken_up(path)
    assert dsm.clock.now() == demo.dsm.clock.now()
    assert dsm.headers.profiling
    assert dsm.account.mark_key_disable_when_deactivated


def test_file_is_private_and_whole(keeper: Keeper, path: Path) -> None:
    keeper.save()
    keeper.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [STATE]


def test_draft_of_a_crash_is_no_obstacle(
    keeper: Keeper, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Path, target: Path) -> Path:
        raise OSError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="crash"):
            keeper.save()
    assert not path.exists()
    keeper.save()
    assert [file.name for file in path.parent.iterdir()] == [STATE]


def test_nothing_is_written_while_nothing_changes(
    demo: DemoKey, keeper: Keeper, path: Path
) -> None:
    keeper.keep_changes()
    path.unlink()
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    keeper.keep_changes()
    assert not path.exists()
    demo.dsm.rekey("kek")
    keeper.keep_changes()
    assert path.exists()


def test_change_is_in_the_file_before_it_is_answered(
    demo: DemoKey, keeper: Keeper, path: Path
) -> None:
    with EmulatorServer(demo.dsm, keeper=keeper, control_token="t") as server:
        answer = httpx.post(
            server.url + "/crypto/v1/keys/rekey",
            json={"name": "kek"},
            headers={"Authorization": f"Basic {demo.admin_api_key}"},
            verify=ssl.create_default_context(cafile=server.ca_file),
            trust_env=False,
        )
    assert taken_up(path).key(name="kek").kid == answer.json()["kid"]


def test_state_of_a_key_is_kept(demo: DemoKey, keeper: Keeper, path: Path) -> None:
    demo.dsm.deactivate(demo.key)
    keeper.save()
    assert taken_up(path).key(kid=demo.key.kid).state is KeyState.DEACTIVATED


def test_without_a_file_there_is_nothing_to_take_up(path: Path) -> None:
    assert take_up(path, Dsm(), sessions=True) is None


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def spoil(text: str) -> str:
        state = json.loads(text)
        change(state)
        return json.dumps(state)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda text: text[:-20],
        lambda _: "[]",
        lambda _: "null",
        lambda _: "[" * 100_000,
        _changed(lambda state: state.pop("model")),
        _changed(lambda state: state.update(format=99)),
        _changed(lambda state: state.update(clock_moved_s="x")),
        _changed(lambda state: state["network"].update(nothing=1)),
        _changed(lambda state: state["network"].update({"date-skew": "x"})),
        _changed(lambda state: state["seeded"].update(app_id="none")),
        _changed(lambda state: state["seeded"].update(more=1)),
        _changed(lambda state: state["model"].update(version=99)),
        _changed(lambda state: state["model"].pop("keys")),
    ],
)
def test_damaged_state_is_refused_with_one_line_without_secrets(
    demo: DemoKey, keeper: Keeper, path: Path, spoil: Callable[[str], str]
) -> None:
    keeper.save()
    path.write_text(spoil(path.read_text()))
    with pytest.raises(StateDamaged) as refused:
        take_up(path, Dsm(), sessions=True)
    text = str(refused.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert demo.app.secret not in text


def test_state_that_others_can_read_is_refused(keeper: Keeper, path: Path) -> None:
    keeper.save()
    path.chmod(0o644)
    with pytest.raises(StateDamaged, match="chmod 0600"):
        take_up(path, Dsm(), sessions=True)


def test_state_that_is_no_file_or_no_text_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateDamaged, match="can't read"):
        take_up(path, Dsm(), sessions=True)
    path.rmdir()
    path.write_bytes(b"\xff")
    with pytest.raises(StateDamaged, match="can't read"):
        take_up(path, Dsm(), sessions=True)

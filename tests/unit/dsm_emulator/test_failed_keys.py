import base64

import pytest

from dsm_emulator import Clock, DemoKey
from dsm_emulator.errors import DsmError


def fail(demo: DemoKey, times: int) -> None:
    wrong = base64.b64encode(f"{demo.app.app_id}:wrong".encode()).decode()
    for _ in range(times):
        with pytest.raises(DsmError):
            demo.dsm.logins.authenticate(f"Basic {wrong}")


def test_hundredth_failure_in_a_day_replaces_the_secret(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    logins.fips = True
    key = f"Basic {demo.api_key}"
    bearer = f"Bearer {logins.log_in(key).token}"
    fail(demo, 99)
    assert logins.authenticate(key) is demo.app
    fail(demo, 1)
    for lost in (key, bearer):
        with pytest.raises(DsmError):
            logins.authenticate(lost)
    assert logins.authenticate(f"Basic {demo.api_key}") is demo.app
    assert logins.fips_resets == {demo.app.app_id: 1}


def test_counting_starts_anew_after_the_reset(demo: DemoKey) -> None:
    demo.dsm.logins.fips = True
    fail(demo, 199)
    assert demo.dsm.logins.fips_resets.total() == 1
    fail(demo, 1)
    assert demo.dsm.logins.fips_resets.total() == 2


def test_failures_older_than_a_day_do_not_count(demo: DemoKey, clock: Clock) -> None:
    logins = demo.dsm.logins
    logins.fips = True
    for _ in range(4):
        fail(demo, 99)
        clock.advance(24 * 3600)
        assert logins.failed_keys.count(demo.app.app_id, clock.now()) == 0
    assert logins.fips_resets.total() == 0


def test_cluster_that_is_not_fips_counts_and_does_nothing(
    demo: DemoKey, clock: Clock
) -> None:
    fail(demo, 150)
    logins = demo.dsm.logins
    assert logins.failed_keys.count(demo.app.app_id, clock.now()) == 100
    assert logins.authenticate(f"Basic {demo.api_key}") is demo.app


def test_lost_sessions_and_unknown_apps_are_no_failed_keys(demo: DemoKey) -> None:
    logins = demo.dsm.logins
    logins.fips = True
    unknown = base64.b64encode(b"nobody:wrong").decode()
    for _ in range(100):
        for header in ("Bearer x", f"Basic {unknown}"):
            with pytest.raises(DsmError):
                logins.authenticate(header)
    assert logins.fips_resets.total() == 0
    assert logins.authenticate(f"Basic {demo.api_key}") is demo.app

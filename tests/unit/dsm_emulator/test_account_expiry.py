import httpx
import pytest

from dsm_emulator import Clock, Condition, DemoKey, Operation


BODY = {
    "key": {"name": "kek"},
    "alg": "AES",
    "mode": "GCM",
    "plain": "",
    "tag_len": 128,
}


def expire(demo: DemoKey, clock: Clock) -> None:
    demo.dsm.account.trial_ends_s = clock.now() + 60
    clock.advance(60)


def disable(demo: DemoKey, clock: Clock) -> None:
    demo.dsm.account.enabled = False


@pytest.mark.parametrize("end", [expire, disable])
def test_all_crypto_stops_while_logging_in_and_look_up_go_on(
    client: httpx.Client, demo: DemoKey, clock: Clock, *, end: object
) -> None:
    assert callable(end)
    demo.dsm.account.trial_ends_s = clock.now() + 60
    sealed = client.post("/crypto/v1/encrypt", json=BODY)
    assert sealed.status_code == 200
    end(demo, clock)
    answers = {
        path: client.post(path, json=body).status_code
        for path, body in {
            "/crypto/v1/encrypt": BODY,
            "/crypto/v1/decrypt": {
                **sealed.json(),
                "key": {"name": "kek"},
                "mode": "GCM",
            },
            "/crypto/v1/keys/info": {"name": "kek"},
            "/sys/v1/session/auth": {},
        }.items()
    }
    assert list(answers.values()) == [403, 403, 200, 200]


def test_what_an_ended_account_answers_is_a_cell(demo: DemoKey, clock: Clock) -> None:
    demo.dsm.table.set(Condition.ACCOUNT_DISABLED, Operation.ENCRYPT, 200)
    expire(demo, clock)
    demo.dsm.encrypt(demo.app, demo.key, "GCM", b"", tag_bits=128)

import json
from email.utils import parsedate_to_datetime

import httpx

from dsm_emulator import Clock, DemoKey


INFO = "/crypto/v1/keys/info"
NAMED = {"name": "kek"}


def test_every_answer_has_its_own_request_id(
    client: httpx.Client, demo: DemoKey
) -> None:
    ids = [client.get(path).headers["x-request-id"] for path in ("/", INFO, INFO)]
    assert len(set(ids)) == 3
    assert [entry.request_id for entry in demo.dsm.journal.entries] == ids
    demo.dsm.sends_request_id = False
    assert "x-request-id" not in client.get(INFO).headers


def test_request_id_of_the_client_comes_back_on_request(
    client: httpx.Client, demo: DemoKey
) -> None:
    sent = {"X-Request-Id": "mine"}
    assert client.get(INFO, headers=sent).headers["x-request-id"] != "mine"
    demo.dsm.headers.echoes_request_id = True
    assert client.get(INFO, headers=sent).headers["x-request-id"] == "mine"
    assert demo.dsm.journal.entries[-1].request_id == "mine"
    assert client.get(INFO).headers["x-request-id"] != "mine"


def test_date_is_that_of_the_model_and_its_skew(
    client: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    def date_s() -> float:
        return parsedate_to_datetime(client.get(INFO).headers["date"]).timestamp()

    assert date_s() == clock.now()
    clock.advance(3600)
    assert date_s() == clock.now()
    demo.dsm.headers.date_skew_s = -7200
    assert date_s() == clock.now() - 7200
    demo.dsm.headers.date = False
    assert "date" not in client.get(INFO).headers


def test_skew_of_the_date_does_not_end_sessions(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.headers.date_skew_s = 365 * 86400
    opened = client.post("/sys/v1/session/auth").json()
    client.headers["Authorization"] = f"Bearer {opened['access_token']}"
    assert opened["expires_in"] == 600
    assert client.post(INFO, json=NAMED).is_success


def test_profile_adds_up_to_its_total(client: httpx.Client, demo: DemoKey) -> None:
    assert "profiling-data" not in client.post(INFO, json=NAMED).headers
    demo.dsm.headers.profiling = True
    shown = json.loads(client.post(INFO, json=NAMED).headers["profiling-data"])
    total = shown.pop("total")
    assert total == sum(shown.values()) > 0
    assert shown.keys() == {
        "in_queue",
        "parse_request",
        "session_lookup",
        "validate_input",
        "check_access",
        "operate",
        "db_flush",
    }


def test_missing_content_type_is_no_matter(client: httpx.Client) -> None:
    answer = client.post(INFO, content=json.dumps(NAMED))
    assert "content-type" not in answer.request.headers
    assert answer.is_success

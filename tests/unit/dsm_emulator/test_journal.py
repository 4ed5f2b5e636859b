import pytest

from dsm_emulator.journal import KEPT_ENTRIES, Entry, Journal


def entry(path: str = "/p", app: str | None = "a", status: int | None = 200) -> Entry:
    return Entry(1.0, "POST", path, app, "k", status, "r")


@pytest.fixture
def journal() -> Journal:
    journal = Journal()
    journal.record(entry())
    journal.record(entry(path="/q"))
    journal.record(entry(app=None, status=401))
    journal.record(entry(status=None))
    journal.failed_logins[None] += 1
    return journal


def test_count_agrees_with_every_argument(journal: Journal) -> None:
    assert journal.count() == 4
    assert journal.count("/p") == 3
    assert journal.count("/p", app="a") == 2
    assert journal.count("/p", app="a", status=200, method="POST", kid="k") == 1
    assert journal.count(method="GET") == 0


def test_counters_are_sums_by_one_thing_each(journal: Journal) -> None:
    assert journal.counters_json() == {
        "path": {"/p": 3, "/q": 1},
        "app": {"a": 3, "-": 1},
        "kid": {"k": 4},
        "status": {"200": 2, "401": 1, "-": 1},
        "failed_logins": {"-": 1},
        "connections": {},
    }


def test_old_entries_go_and_their_counts_stay() -> None:
    journal = Journal()
    for _ in range(KEPT_ENTRIES + 1):
        journal.record(entry())
    assert len(journal.entries) == KEPT_ENTRIES
    assert journal.count("/p") == KEPT_ENTRIES + 1


def test_cleared_journal_is_empty(journal: Journal) -> None:
    journal.clear()
    assert journal.entries == []
    assert journal.entries_json() == []
    assert journal.count() == 0
    assert not journal.failed_logins

"""The corpus: what a run leaves is what a later one finds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.unit.kms_conformance.support import checks, ids_of, report, what_failed

from kms_conformance.checks.decrypt_later import (
    ADDED_BY_EACH_RUN,
    earlier_runs_are_opened,
)
from kms_conformance.connection import Sealed
from kms_conformance.context import Context
from kms_conformance.corpus import Corpus, CorpusRefused, Entry
from kms_conformance.outcome import NotRun, Verdict
from kms_conformance.recorder import Recorder
from kms_conformance.scale import TINY


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.support import Site


ANNOTATED = Sealed(b"\x00\xff", "key", (("a.example", b""), ("b.example", b"\x01")))
ENTRY = Entry(datetime(2026, 1, 2, tzinfo=UTC), bytes(32), ANNOTATED)
HEADER = '{"format": "kms-conformance-corpus/1"}\n'


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.entries() == ()
    plain = Entry(ENTRY.sealed_at, b"\x01", Sealed(b"\x02", "key"))
    corpus.add([ENTRY])
    corpus.add([plain])
    assert corpus.entries() == (ENTRY, plain)


def test_file_says_that_its_seeds_are_test_bytes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus")
    corpus.add([ENTRY, ENTRY])
    first, *others = corpus.path.read_text().splitlines()
    assert "random test bytes" in first
    assert len(others) == 2


def test_empty_file_is_a_corpus(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus")
    corpus.path.touch()
    assert corpus.entries() == ()
    corpus.add([ENTRY])
    assert corpus.entries() == (ENTRY,)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"garbage\n", "line 1 is no JSON object"),
        (b"[]\n", "line 1 is no JSON object"),
        (b'{"format": "another/2"}\n', "line 1 does not say"),
        (HEADER.encode() + b'{"seed": "00"}\n', "line 2 is no sealed seed"),
        (b"\xff\xfe", "can't be read"),
        (100_000 * b"[", "line 1 is no JSON object"),
        (
            HEADER.encode() + b'{"sealed_at": "2026-01-01T00:00:00+00:00", "seed": '
            b'"00", "ciphertext": "00", "key_id": "\\ud800", "annotations": {}}\n',
            "line 2 is no sealed seed",
        ),
    ],
)
def test_other_file_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    corpus = Corpus(tmp_path / "corpus")
    corpus.path.write_bytes(content)
    with pytest.raises(CorpusRefused, match=match):
        corpus.entries()


def test_file_that_cannot_be_written_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusRefused, match="can't be written"):
        Corpus(tmp_path / "no" / "corpus").add([ENTRY])


async def test_corpus_grows_with_each_run(site: Site) -> None:
    first = await report(site.target, checks({"D19"}))
    assert ids_of(first, Verdict.NOT_RUN) == {"D19"}
    second = await report(site.target, checks({"D19"}))
    assert ids_of(second, Verdict.PASSED) == {"D19"}
    assert len(Corpus(site.corpus).entries()) == 2 * ADDED_BY_EACH_RUN


async def test_check_of_the_corpus_needs_one(site: Site) -> None:
    kit = Context("D19", site.bare, TINY, 1, Recorder())
    with pytest.raises(NotRun, match="needs --corpus"):
        await earlier_runs_are_opened(kit)


async def test_broken_corpus_fails_the_check_and_stays_as_it_is(site: Site) -> None:
    site.corpus.write_text("garbage")
    found = await report(site.target, checks({"D19"}))
    assert what_failed(found) == {"D19": "line 1 is no JSON object"}
    assert site.corpus.read_text() == "garbage"

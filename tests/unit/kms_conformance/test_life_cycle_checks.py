"""What the checks of the life cycle say where no plugin is at fault, or the hook is."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from tests.unit.kms_conformance.support import checks, report, what_failed

from kms_conformance.target import Endpoint


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_conformance.support import Site


def fails() -> int:
    raise ValueError("the file is empty")


@pytest.mark.parametrize(
    ("pid", "reason"), [(fails, "the file is empty"), (lambda: 2**30, "No such file")]
)
async def test_soak_of_an_unknown_process_is_not_run(
    site: Site, pid: Callable[[], int], reason: str
) -> None:
    found = await report(evolve(site.target, pid=pid), checks({"L09"}))
    (result,) = found.results
    assert result.verdict.value == "not run"
    assert reason in result.came


async def test_process_that_was_replaced_during_the_soak_is_named(site: Site) -> None:
    # The first is replaced before the soak is warm; the parent lives as long as we do.
    pids = itertools.chain([os.getpid(), os.getpid()], itertools.repeat(os.getppid()))
    target = evolve(site.target, pid=lambda: next(pids))
    found = await report(target, checks({"L09"}))
    assert f"process {os.getppid()} at the end" in what_failed(found)["L09"]


async def test_abstract_socket_has_no_file_to_look_at(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms_conformance.presence.GONE_AFTER_S", 0.0)
    target = evolve(site.target, endpoint=Endpoint("@nobody"))
    found = await report(target, checks({"L05"}))
    assert "an abstract socket has no file" in found.results[0].came

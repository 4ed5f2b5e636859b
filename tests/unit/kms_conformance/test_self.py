"""The kit judges plugins rightly: a correct one passes, a bad one is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from tests.unit.kms_conformance.bad_plugins import Bad, every_bad_plugin
from tests.unit.kms_conformance.support import Site, report, what_failed

from kms_conformance.catalogue import CATALOGUE
from kms_conformance.checks import everything
from kms_conformance.scale import TINY


if TYPE_CHECKING:
    from pathlib import Path


BAD = every_bad_plugin()


async def test_reference_plugin_passes_every_check(site: Site) -> None:
    found = await report(site.target, everything())
    assert what_failed(found) == {}
    assert found.exit_code == 0


async def test_check_whose_hook_is_missing_is_not_run(site: Site) -> None:
    plain = {one.id for one in everything() if not one.needs}
    found = await report(site.bare, everything())
    missing = {one.check.id for one in found.results if one.came.startswith("needs")}
    assert missing == {one.id for one in everything()} - plain


@pytest.mark.parametrize("fault", BAD, ids=lambda fault: fault.name)
async def test_bad_plugin_is_caught_by_its_check_and_by_no_unrelated_one(
    fault: Bad, directory: Path
) -> None:
    # What disturbs the plugin is left out, but for the check that is named.
    chosen = tuple(
        one for one in everything() if not one.disruption or one.id in fault.caught_by
    )
    scale = evolve(TINY, timeout_s=fault.timeout_s)
    async with Site(directory, fault.plugin) as site:
        failed = what_failed(await report(site.target, chosen, scale))
    assert set(fault.caught_by) <= set(failed)
    unrelated = {name: why for name, why in failed.items() if not fault.explains(name)}
    assert unrelated == {}


def test_bad_plugins_name_checks_that_exist() -> None:
    known = {entry.id for entry in CATALOGUE}
    groups = {name[0] for name in known}
    for fault in BAD:
        assert fault.caught_by
        assert set(fault.caught_by) <= known
        assert set(fault.also) <= known | groups


def test_each_check_catches_some_bad_plugin() -> None:
    caught = {check_id for fault in BAD for check_id in fault.caught_by}
    assert caught == {entry.id for entry in CATALOGUE}

"""The encryption configuration changes under a running kube-apiserver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.harness.program import eventually


if TYPE_CHECKING:
    from tests.e2e.conftest import Reloading


def test_encryption_configuration_is_reloaded_without_a_failed_write(
    reloading: Reloading,
) -> None:
    writer, kube = reloading.writer, reloading.kube

    # It looks at the file once a minute.
    eventually(
        writer.ended, within_s=120, what="writes go through the new configuration"
    )

    assert writer.failures == []
    providers = [each.provider for each in writer.written]
    before, after = providers.count("dsm"), providers.count("dsm-2")
    assert before > 0
    assert after > 0
    assert providers == ["dsm"] * before + ["dsm-2"] * after
    assert kube.secrets("reload") == {w.name: w.name for w in writer.written}
    assert kube.health("/readyz/kms-providers") == (200, "ok")

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand
from tests.unit.kms_conformance.support import Site

from kms_conformance import v1
from kms_conformance.outcome import CallFailed
from kms_conformance.reference_v1 import ReferenceWithV1


if TYPE_CHECKING:
    from pathlib import Path


class AnswersNoV1Message(ByHand):
    def on_unknown_method(self) -> bytes:
        return b"\xff"


async def test_cipher_that_was_changed_is_refused(directory: Path) -> None:
    async with Site(directory, ReferenceWithV1) as site:
        kit = site.context()
        plugin = kit.dial()
        cipher = await v1.encrypt(plugin, b"ping")
        assert await v1.decrypt(plugin, cipher) == b"ping"
        with pytest.raises(CallFailed, match="INVALID_ARGUMENT"):
            await v1.decrypt(plugin, cipher[:-1])
        await kit.aclose()


async def test_answer_that_is_no_v1_message_fails_the_call(directory: Path) -> None:
    async with Site(directory, AnswersNoV1Message) as site:
        kit = site.context()
        with pytest.raises(CallFailed, match="no v1beta1 message"):
            await v1.version(kit.dial())
        await kit.aclose()

"""Outage: how a plugin tells kube-apiserver that its key can't be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.rules import HEALTHY
from kms_conformance.outcome import CallFailed, Failed


if TYPE_CHECKING:
    from kms_conformance.connection import Connection, StatusAnswer
    from kms_conformance.context import Context


ASKED_EVERY_S: Final = 0.2


async def told(kit: Context, plugin: Connection) -> CallFailed | StatusAnswer:
    """Wait until Status tells that the key service is broken, and return its words.

    A plugin that answers from memory may need as long for this as for a rotation.

    Args:
        kit: The check's context; it has pulled ``Hook.BREAK``.
        plugin: The connection to ask on.

    Raises:
        Failed: A Status hung, or all said ok until the time was over.
    """
    said: list[CallFailed | StatusAnswer] = []

    async def tells() -> bool:
        said.append(await asked(plugin))
        return not says_ok(said[-1])

    took_s = await kit.until(
        tells,
        within_s=kit.target.rotation_s,
        otherwise="after --break, Status said nothing but ok",
        every_s=ASKED_EVERY_S,
    )
    kit.measure("from --break to the first Status that tells", round(took_s, 3), "s")
    return said[-1]


async def asked(plugin: Connection) -> CallFailed | StatusAnswer:
    """Return what Status says, be it an answer or an error.

    Raises:
        Failed: It hung.
    """
    try:
        return await plugin.status()
    except CallFailed as failure:
        if failure.no_answer:
            raise Failed(str(failure)) from None
        return failure


def says_ok(said: CallFailed | StatusAnswer) -> bool:
    """Return whether Status said that all is well."""
    return not isinstance(said, CallFailed) and said.healthz == HEALTHY


def words_of(said: CallFailed | StatusAnswer) -> str:
    """Return the text with which Status tells: an error's, or its healthz."""
    return said.text if isinstance(said, CallFailed) else said.healthz

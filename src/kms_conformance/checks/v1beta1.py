"""v1beta1, where the plugin serves it on the same socket for clusters that migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from kms_conformance import v1
from kms_conformance.check import check
from kms_conformance.connection import Dial, Sealed
from kms_conformance.expect import refused, same
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed, NotRun


if TYPE_CHECKING:
    from kms_conformance.connection import Connection
    from kms_conformance.context import Context


_PING: Final = b"ping"


@check("V01", MUST)
async def v1_version_is_v1beta1(kit: Context) -> None:
    """Version answers v1beta1.

    Sends: Version with version v1beta1.
    Expects: version is exactly v1beta1.
    Why: kube-apiserver asks before its first Encrypt or Decrypt, and makes none of them
        unless the answer is this.
    Source: `v1` 106-113
    """
    plugin = await _serving_v1(kit)
    version = await v1.version(plugin)
    if version != v1.API_VERSION:
        raise Failed(f"version is {version!r}")


@check("V02", MUST)
async def v1_ping_comes_back(kit: Context) -> None:
    """The four bytes of the health check are sealed and opened.

    Sends: Encrypt of ping, Decrypt of the answer.
    Expects: ping.
    Why: that is the whole health check of a v1 provider.
    Source: `cfg` 332-343
    """
    plugin = await _serving_v1(kit)
    same(await v1.decrypt(plugin, await v1.encrypt(plugin, _PING)), _PING)


@check("V03", MUST)
async def v1_key_comes_back_on_its_authority(kit: Context) -> None:
    """A data key is sealed and opened for a client that names the path as authority.

    Sends: Encrypt of 32 random bytes and Decrypt of the answer, with :authority set to
        the percent-encoded path of the socket.
    Expects: the same 32 bytes.
    Why: kube-apiserver's v1 client never sets another authority.
    Source: `v1` 64-80
    """
    await _serving_v1(kit)
    plugin = kit.dial(Dial(authority=quote(kit.target.endpoint.name, safe="")))
    key = kit.seed()
    same(await v1.decrypt(plugin, await v1.encrypt(plugin, key)), key)


@check("V04", SHOULD)
async def v1_is_unimplemented_where_it_is_not_served(kit: Context) -> None:
    """A plugin without v1beta1 says so.

    Sends: Version, Encrypt and Decrypt of v1beta1.
    Expects: UNIMPLEMENTED, without hanging.
    Why: a provider that was configured with the wrong apiVersion is found by this error
        in kube-apiserver's log.
    Source: `contract` V04
    """
    plugin = kit.dial()
    if await _serves_v1(plugin):
        raise NotRun("v1beta1 is served")
    for path in (v1.VERSION_METHOD, v1.ENCRYPT_METHOD, v1.DECRYPT_METHOD):
        refusal = await refused(plugin.raw(path, b""), sent=path)
        if refusal.code != "UNIMPLEMENTED":
            raise Failed(f"{refusal} instead of UNIMPLEMENTED", sent=path)


@check("V05", SHOULD)
async def v1_and_v2_do_not_open_each_others(kit: Context) -> None:
    """Neither interface opens what the other has sealed.

    Sends: the cipher of v1's Encrypt to v2's Decrypt with the key_id of Status, and the
        ciphertext of v2's Encrypt to v1's Decrypt.
    Expects: an error, both times.
    Why: v1 has no key_id; what v2 promises about it could be got round there.
    Source: `contract` V05
    """
    plugin = await _serving_v1(kit)
    cipher = await v1.encrypt(plugin, kit.seed())
    forged = Sealed(cipher, (await plugin.status()).key_id)
    await refused(plugin.decrypt(forged), sent="v1's cipher to v2's Decrypt")
    sealed = await plugin.encrypt(kit.seed())
    opening = v1.decrypt(plugin, sealed.ciphertext)
    await refused(opening, sent="v2's ciphertext to v1's Decrypt")


async def _serving_v1(kit: Context) -> Connection:
    """Return a new connection to a plugin that serves v1beta1.

    Raises:
        NotRun: It does not.
    """
    plugin = kit.dial()
    if not await _serves_v1(plugin):
        raise NotRun("v1beta1 is not served")
    return plugin


async def _serves_v1(plugin: Connection) -> bool:
    """Return whether Version or Encrypt is answered: one of them may be broken."""
    try:
        await v1.version(plugin)
    except CallFailed as failure:
        if failure.no_answer:
            return False  # a hang is for V04, and one is long enough
    else:
        return True
    try:
        await v1.encrypt(plugin, _PING)
    except CallFailed:
        return False
    return True

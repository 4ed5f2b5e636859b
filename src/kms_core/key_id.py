"""key_id: the public name of the KEK in use, which kube-apiserver stores.

Two forms:

- native, ``sdkms.v1:<kid>`` or ``sdkms.v1:<kid>:<kid it replaced>``: made from the key
  service's own shared metadata alone, so that every control-plane node computes the
  same one, and a change of endpoint, DNS name or key name changes nothing;
- legacy, the Go plugin's: 64 lower-case hex digits, a SHA-256 of three strings of its
  config file.
"""

from __future__ import annotations

import abc
import hashlib
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from kms_core.errors import KeyIdMalformed, KeyIdMismatch, ProviderAnswerRefused
from kms_core.limits import MAX_KEY_ID_BYTES


if TYPE_CHECKING:
    from kms_core.provider import KeyDescription


DEFAULT_SCHEME: Final = "sdkms.v1"

# No colon, which separates; no space or control character, since key_ids are logged.
_KID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_SCHEME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
_LEGACY: Final = re.compile(r"[0-9a-f]{64}")


@frozen
class NativeKeyId:
    """A parsed native key_id.

    Attributes:
        scheme: First part; names the plugin family and the version of this form.
        kid: The key in use.
        replaced: The key that it took over from, once there is a lineage.
    """

    scheme: str
    kid: str
    replaced: str | None = None

    def __str__(self) -> str:
        """Return the key_id as kube-apiserver stores it."""
        parts = [self.scheme, self.kid]
        if self.replaced is not None:
            parts.append(self.replaced)
        return ":".join(parts)

    @classmethod
    def parse(cls, text: str) -> NativeKeyId:
        """Read a native key_id.

        Raises:
            KeyIdMalformed: *text* is not one, or not in its only spelling.
        """
        scheme, *kids = text.split(":")
        well_formed = (
            len(text) <= MAX_KEY_ID_BYTES
            and _SCHEME.fullmatch(scheme) is not None
            and 1 <= len(kids) <= 2  # noqa: PLR2004 - kid, and the kid it replaced
            and all(is_kid(kid) for kid in kids)
        )
        if not well_formed:
            raise KeyIdMalformed(f"a key_id of {len(text)} characters is not native")
        return cls(scheme, *kids)


def require_native(key_id: str, kid: str, scheme: str) -> None:
    """Check that *key_id* is native, of *scheme*, and names *kid*.

    Raises:
        KeyIdMalformed: It is not native, or of another scheme.
        KeyIdMismatch: It is a Go plugin's hash, or names another key.
    """
    if is_legacy(key_id):
        raise KeyIdMismatch("a native sealed seed came with a Go plugin's hash")
    native = NativeKeyId.parse(key_id)
    if native.scheme != scheme:
        raise KeyIdMalformed("the key_id is of another scheme")
    if native.kid != kid:
        raise KeyIdMismatch("the key_id names another key than the sealed seed")


def is_kid(text: str) -> bool:
    """Return whether *text* can be a kid: 1 to 200 characters, none of them odd."""
    return _KID.fullmatch(text) is not None


def is_legacy(text: str) -> bool:
    """Return whether *text* has the form of a Go plugin's key_id."""
    return _LEGACY.fullmatch(text) is not None


def go_plugin_key_id(endpoint: str, key_id: str = "", key_name: str = "") -> str:
    """Return the Go plugin's key_id for a config: 64 lower-case hex digits.

    The strings must stand as they do in the file, never normalised: the plugin hashes
    their plain concatenation, in this order (k8s-sdkms-plugin 0.3.0, ``main.go``).

    Args:
        endpoint: ``sdkms_endpoint``.
        key_id: ``key_id``, the key's UUID, or empty.
        key_name: ``key_name``, or empty.
    """
    return hashlib.sha256(f"{endpoint}{key_id}{key_name}".encode()).hexdigest()


@frozen
class AnnouncedKey:
    """A KEK and its public name, always passed on together.

    Attributes:
        kid: The key version that seals.
        key_id: What Status answers while it does.
    """

    kid: str
    key_id: str


class KeyNaming(abc.ABC):
    """How the key in use gets its key_id."""

    @abc.abstractmethod
    def key_id(self, description: KeyDescription) -> str:
        """Return the key_id under which *description*'s key is announced.

        Raises:
            ProviderAnswerRefused: The description's kids can't stand in a key_id.
        """


@frozen
class NativeNaming(KeyNaming):
    """key_id from the kid and its lineage."""

    scheme: str = DEFAULT_SCHEME

    def key_id(self, description: KeyDescription) -> str:
        """Return ``scheme:kid`` or ``scheme:kid:replaced``."""
        kids = [description.kid]
        if description.replaced is not None:
            kids.append(description.replaced)
        if not all(is_kid(kid) for kid in kids):
            raise ProviderAnswerRefused("the key service gave an id of unknown form")
        return str(NativeKeyId(self.scheme, *kids))


@frozen
class LegacyNaming(KeyNaming):
    """The Go plugin's: the same key_id for ever, whatever the key.

    Attributes:
        fixed: The hash of today's config.
    """

    fixed: str = field()

    @fixed.validator
    def _is_legacy(self, _attribute: object, value: str) -> None:
        if not is_legacy(value):
            raise ValueError("not a Go plugin's key_id")

    def key_id(self, description: KeyDescription) -> str:  # noqa: ARG002 - the port's
        """Return the fixed hash."""
        return self.fixed

"""The `aes` field of a key: what its use is limited to (section 2.2).

That `random_iv` forbids an IV of the caller's is known, its exact effect isn't; that
the other fields bind every encryption is assumed.
"""

from typing import Any

from attrs import asdict, frozen

from dsm_emulator.errors import bad_request
from dsm_emulator.wire import optional_bool, optional_int, optional_str


@frozen
class AesOptions:
    """Limits of an AES key; None is: no limit.

    Attributes:
        random_iv: Whether DSM makes every IV itself.
        cipher_mode: The one mode.
        tag_length: The one tag length, in bits.
        iv_length: The one length of an IV, in bytes.
    """

    random_iv: bool | None = None
    cipher_mode: str | None = None
    tag_length: int | None = None
    iv_length: int | None = None

    @classmethod
    def from_json(cls, value: object) -> "AesOptions":
        """Read DSM's form.

        Raises:
            DsmError: 400, not of that form.
        """
        if not isinstance(value, dict):
            raise bad_request("invalid type for field `aes`")
        return cls(
            random_iv=optional_bool(value, "random_iv"),
            cipher_mode=optional_str(value, "cipher_mode"),
            tag_length=optional_int(value, "tag_length"),
            iv_length=optional_int(value, "iv_length"),
        )

    def as_json(self) -> dict[str, Any]:
        """Return DSM's form, without what is no limit."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    def violation(
        self, mode: str, iv: bytes | None, tag_bits: int | None
    ) -> str | None:
        """Return what an encryption would break, apart from `random_iv`."""
        if self.cipher_mode not in {None, mode}:
            return "mode is not allowed for this sobject"
        if iv is not None and self.iv_length not in {None, len(iv)}:
            return "invalid iv length"
        if tag_bits is not None and self.tag_length not in {None, tag_bits}:
            return "tag_len is not allowed for this sobject"
        return None

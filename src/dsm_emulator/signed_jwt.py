"""The signed JWT as a credential: an app's issuers and keys, and the check of a token.

What the app stores is known (section 1.4). How a token is sent, that its subject names
the app, and which of its dates count, is assumed: DSM's specification doesn't say.
"""

import json
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key


_HASHES: dict[str, HashAlgorithm] = {
    "256": SHA256(),
    "384": SHA384(),
    "512": SHA512(),
}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_PARTS = 3


@frozen
class JwtCredential:
    """Whose tokens log an app in.

    Attributes:
        valid_issuers: `iss` has to be one of them.
        signing_keys: DER public keys by `kid`, DSM's kind "stored". The kind "fetched"
            isn't emulated.
    """

    valid_issuers: frozenset[str]
    signing_keys: Mapping[str, bytes]

    def __attrs_post_init__(self) -> None:
        """Check the keys.

        Raises:
            ValueError: One isn't a public key of RSA or of an elliptic curve.
        """
        for key_der in self.signing_keys.values():
            key = load_der_public_key(key_der)
            if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
                raise ValueError("a signing key is one of RSA or of an elliptic curve")  # noqa: TRY004 - bytes of the wrong content

    def accepts(self, token: str, now_s: float) -> bool:
        """Return whether *token* is signed by a key, from an issuer, and current.

        `exp` is required, `nbf` is heeded.
        """
        try:
            header, claims, signed, signature = _split(token)
            kid = header.get("kid")
            key_der = self.signing_keys[kid if isinstance(kid, str) else ""]
            _verify(key_der, str(header.get("alg")), signed, signature)
        except (ValueError, KeyError, InvalidSignature):
            return False
        return (
            claims.get("iss") in self.valid_issuers
            and _instant(claims.get("exp"), 0.0) > now_s
            and _instant(claims.get("nbf"), 0.0) <= now_s
        )


def subject(token: str) -> str | None:
    """Return whom *token* speaks of, unverified; None if it is no JWT."""
    try:
        claimed = _split(token)[1].get("sub")
    except ValueError:
        return None
    return claimed if isinstance(claimed, str) else None


def _split(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ValueError("not three parts")
    header, claims = (json.loads(_base64url(part)) for part in parts[:2])
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("not two objects")  # noqa: TRY004 - a token of the wrong form
    return header, claims, ".".join(parts[:2]).encode(), _base64url(parts[2])


def _base64url(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    return a2b_base64(padded.translate(str.maketrans("-_", "+/")))


def _verify(key_der: bytes, algorithm: str, signed: bytes, signature: bytes) -> None:
    key = load_der_public_key(key_der)
    digest = _HASHES[algorithm[2:]]
    family = algorithm[:2]
    if family == "ES" and isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name != _CURVES[algorithm]:
            raise ValueError("another curve")
        half = len(signature) // 2
        pair = (
            int.from_bytes(signature[:half], "big"),
            int.from_bytes(signature[half:], "big"),
        )
        key.verify(encode_dss_signature(*pair), signed, ec.ECDSA(digest))
    elif family == "RS" and isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), digest)
    elif family == "PS" and isinstance(key, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        key.verify(signature, signed, pss, digest)
    else:
        raise ValueError("algorithm and key don't agree")


def _instant(claim: object, default: float) -> float:
    if isinstance(claim, bool) or not isinstance(claim, (int, float)):
        return default
    return float(claim)

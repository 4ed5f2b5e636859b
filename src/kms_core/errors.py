"""The one error family of the core, by what the operator should do.

::

    KmsError
    ├── CallError                    this call alone; moves no state
    │   ├── MessageMalformed         REQUEST-MALFORMED
    │   ├── SeedSizeRefused          SEED-SIZE
    │   ├── SealedSeedMalformed      SEALED-SEED-MALFORMED
    │   ├── SealedSeedNotAuthentic   SEALED-SEED-NOT-AUTHENTIC
    │   ├── KeyIdMalformed           KEY-ID-MALFORMED
    │   ├── KeyIdNotAccepted         KEY-ID-NOT-ACCEPTED
    │   ├── KeyIdMismatch            KEY-ID-MISMATCH
    │   ├── AnnotationsRefused       ANNOTATIONS-REFUSED
    │   ├── RotationHidden           ROTATION-HIDDEN
    │   ├── AnswerTooLarge           ANSWER-SIZE
    │   ├── NotReady                 NOT-READY
    │   ├── ShuttingDown             SHUTTING-DOWN
    │   └── InternalFault            INTERNAL
    └── ProviderError                what a KeyProvider may raise
        ├── OutageError              treated as an outage
        │   ├── ProviderUnreachable  DSM-UNREACHABLE
        │   ├── ProviderUntrusted    DSM-UNTRUSTED
        │   ├── ProviderTimeout      DSM-TIMEOUT
        │   ├── ProviderThrottling   DSM-THROTTLING
        │   ├── ProviderFaulty       DSM-FAULTY
        │   └── ProviderAnswerRefused  DSM-ANSWER-REFUSED
        ├── RefusalError             a no that may be a mistake
        │   ├── CredentialRefused    CREDENTIAL-REFUSED
        │   ├── PermissionRefused    PERMISSION-REFUSED
        │   ├── ApprovalNeeded       APPROVAL-NEEDED
        │   ├── RequestRefused       DSM-REQUEST-REFUSED
        │   ├── KeyNotFound          KEY-NOT-FOUND
        │   ├── KeyNotActive         KEY-NOT-ACTIVE
        │   ├── KeyDeactivated       KEY-DEACTIVATED
        │   └── KeyUnsuitable        KEY-UNSUITABLE
        └── DenialError              an explicit word that the key must not be used
            ├── KeyDisabled          KEY-DISABLED
            ├── KeyCompromised       KEY-COMPROMISED
            └── KeyDestroyed         KEY-DESTROYED

A provider may raise SealedSeedNotAuthentic too: only it can know. ``docs/errors.md``
is generated from these classes.
"""

from __future__ import annotations

import copy
import enum
import unicodedata
from typing import TYPE_CHECKING, ClassVar


if TYPE_CHECKING:
    from typing import Self


MAX_TEXT_BYTES = 512
"""Longest error text in bytes of UTF-8; it reaches API users and logs."""


class RpcCode(enum.Enum):
    """The gRPC status codes in use, by name (grpc/grpc doc/statuscodes.md)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Meaning(enum.Enum):
    """What an error says about the announced key (design section 7)."""

    CALL = "call"
    OUTAGE = "outage"
    REFUSED = "refused"
    DENIED = "denied"


class KmsError(Exception):
    """Base of everything that the core and its adapters raise on purpose.

    Args:
        cause: One line that says what happened. It must hold no secret and no text
            that the other side chose; control characters are dropped.

    Attributes:
        code: Stable name of the error, for people and for alerts.
        rpc_code: The gRPC status code it maps to.
        retryable: Whether the same call may succeed within seconds.
        meaning: What it says about the announced key.
        hint: What the operator should do, one line.
        cause: What happened, one line.
    """

    code: ClassVar[str]
    rpc_code: ClassVar[RpcCode]
    retryable: ClassVar[bool] = False
    meaning: ClassVar[Meaning] = Meaning.CALL
    hint: ClassVar[str]

    def __init__(self, cause: str) -> None:
        self.cause = one_line(cause)
        super().__init__(self.cause)

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Return ``CODE: cause; hint`` as one line of at most 512 bytes."""
        return one_line(f"{self.code}: {self.cause}; {self.hint}", MAX_TEXT_BYTES)

    def without_traceback(self) -> Self:
        """Return an equal error that refers to no frame and to no other error.

        What is kept, or raised again and again, must be such a copy: the frames of a
        traceback hold seeds and credentials, and each raise adds to it.
        """
        return copy.copy(self)


def one_line(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return *text* on one line, without control characters, cut to *max_bytes*.

    The cut falls between characters and is marked by an ellipsis.
    """
    flat = " ".join(text.split())
    clean = "".join(c for c in flat if unicodedata.category(c)[0] != "C")
    encoded = clean.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode("utf-8")
    mark = "..."
    kept = encoded[: max_bytes - len(mark)].decode("utf-8", "ignore")
    return kept + mark


class CallError(KmsError):
    """This call failed; nothing is said about the announced key."""


class MessageMalformed(CallError):
    """The bytes from the socket are no KMS v2 message."""

    code = "REQUEST-MALFORMED"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = "only kube-apiserver, or another KMS v2 client, should use this socket"


class SeedSizeRefused(CallError):
    """The plaintext is empty or larger than any seed."""

    code = "SEED-SIZE"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = "kube-apiserver sends 32 bytes; this socket protects seeds, not data"


class SealedSeedMalformed(CallError):
    """The ciphertext is none of the three versions, byte for byte."""

    code = "SEALED-SEED-MALFORMED"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = (
        "what etcd holds was not written by this plugin or the Go plugin 0.3.0, or "
        "is damaged; restore the object from a backup"
    )


class SealedSeedNotAuthentic(CallError):
    """The ciphertext fails authentication: it, or its key_id, was changed."""

    code = "SEALED-SEED-NOT-AUTHENTIC"
    rpc_code = RpcCode.INVALID_ARGUMENT
    # The second half is the more common one, and the first costs nothing: DSM answers
    # 400 to a wrong tag, and perhaps to more than that.
    hint = (
        "if every object fails so, look at the key in DSM; if some do, what etcd holds "
        "is damaged or forged: restore them from a backup"
    )


class KeyIdMalformed(CallError):
    """The key_id is neither a native one nor a Go plugin's hash."""

    code = "KEY-ID-MALFORMED"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = "the object was not written by this plugin; list its provider as well"


class KeyIdNotAccepted(CallError):
    """A Go plugin's hash that is not that of this config, nor listed."""

    code = "KEY-ID-NOT-ACCEPTED"
    rpc_code = RpcCode.FAILED_PRECONDITION
    hint = (
        "if a former config of the Go plugin gave this hash, add it to accept_key_ids"
    )


class KeyIdMismatch(CallError):
    """The key_id names another key, or another format, than the ciphertext."""

    code = "KEY-ID-MISMATCH"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = "key_id and ciphertext were not stored together; restore from a backup"


class AnnotationsRefused(CallError):
    """The call carries annotations, and this plugin never wrote any."""

    code = "ANNOTATIONS-REFUSED"
    rpc_code = RpcCode.INVALID_ARGUMENT
    hint = "the object was written by another plugin; list its provider as well"


class RotationHidden(CallError):
    """The key was rotated, and the Go plugin's format hides it. Reported only."""

    code = "ROTATION-HIDDEN"
    rpc_code = RpcCode.FAILED_PRECONDITION
    hint = (
        "keep every former key active in DSM, and move to write_format native, then "
        "rewrite everything that is encrypted"
    )


class AnswerTooLarge(CallError):
    """The answer breaks a limit of kube-apiserver, so it was not sent."""

    code = "ANSWER-SIZE"
    rpc_code = RpcCode.INTERNAL
    hint = "this is a defect of the plugin or of the key service; please report it"


class NotReady(CallError):
    """The daemon has no key that it may use for this call now."""

    code = "NOT-READY"
    rpc_code = RpcCode.UNAVAILABLE
    retryable = True
    hint = "it heals by itself once the cause is gone; restart nothing"


class ShuttingDown(CallError):
    """The daemon is stopping and takes no new calls."""

    code = "SHUTTING-DOWN"
    rpc_code = RpcCode.UNAVAILABLE
    retryable = True
    hint = "wait for the daemon to start again"


class InternalFault(CallError):
    """A defect of ours; its details are in the daemon's log, not in the answer."""

    code = "INTERNAL"
    rpc_code = RpcCode.INTERNAL
    hint = "see the daemon's log at this time, and report it"


class ProviderError(KmsError):
    """What a KeyProvider may raise."""


class OutageError(ProviderError):
    """The key service can't be used now; nothing is said about the key."""

    rpc_code = RpcCode.UNAVAILABLE
    meaning = Meaning.OUTAGE


class ProviderUnreachable(OutageError):
    """No connection: DNS, routing, refused, reset, or closed in between."""

    code = "DSM-UNREACHABLE"
    retryable = True
    hint = "check the network, the proxy and DSM itself"


class ProviderUntrusted(OutageError):
    """TLS failed: the certificate's issuer, host name or dates."""

    code = "DSM-UNTRUSTED"
    hint = "check ca_file, the host name in sdkms_endpoint and DSM's certificate"


class ProviderTimeout(OutageError):
    """The deadline passed before the key service answered."""

    code = "DSM-TIMEOUT"
    rpc_code = RpcCode.DEADLINE_EXCEEDED
    hint = "check DSM's latency and the network"


class ProviderThrottling(OutageError):
    """The key service limits our rate (429)."""

    code = "DSM-THROTTLING"
    retryable = True
    hint = "raise the quota of the DSM account, or lower the number of calls"


class ProviderFaulty(OutageError):
    """The key service, or a proxy before it, failed (5xx)."""

    code = "DSM-FAULTY"
    retryable = True
    hint = "check DSM's health and the proxies before it"


class ProviderAnswerRefused(OutageError):
    """An answer failed our checks, so nothing of it was used."""

    code = "DSM-ANSWER-REFUSED"
    hint = "check that sdkms_endpoint is DSM and that nothing rewrites its answers"


class RefusalError(ProviderError):
    """The key service says no, and it may be a mistake of an administrator."""

    rpc_code = RpcCode.FAILED_PRECONDITION
    meaning = Meaning.REFUSED


class CredentialRefused(RefusalError):
    """The credential is wrong, expired or disabled.

    Args:
        cause: As for every KmsError.
        remembered: True when the key service was not asked again: the refusal is an
            earlier one, kept so that a FIPS cluster does not reset the credential
            (DSM: 100 failures in 24 h).
    """

    code = "CREDENTIAL-REFUSED"
    rpc_code = RpcCode.UNAUTHENTICATED
    hint = (
        "put a valid credential of the DSM app in place; the timer tries it again, "
        "SIGHUP at once"
    )

    def __init__(self, cause: str, *, remembered: bool = False) -> None:
        super().__init__(cause)
        self.remembered = remembered


class PermissionRefused(RefusalError):
    """The app may not do this with the key, or the key's state forbids it."""

    code = "PERMISSION-REFUSED"
    rpc_code = RpcCode.PERMISSION_DENIED
    hint = (
        "check in DSM that the app's group holds the key with ENCRYPT and DECRYPT, "
        "and that the key is active and enabled"
    )


class ApprovalNeeded(RefusalError):
    """A quorum policy covers the key's use."""

    code = "APPROVAL-NEEDED"
    hint = (
        "take encryption and decryption out of the group's quorum policy: "
        "kube-apiserver waits three seconds"
    )


class RequestRefused(RefusalError):
    """The key service calls our request wrong (4xx)."""

    code = "DSM-REQUEST-REFUSED"
    hint = "check the key's cipher modes and policies in DSM"


class KeyNotFound(RefusalError):
    """The key does not exist, or this app can't see it."""

    code = "KEY-NOT-FOUND"
    rpc_code = RpcCode.NOT_FOUND
    hint = "check key_name or key_id, the app's groups, and DSM's deleted keys"


class KeyNotActive(RefusalError):
    """The key waits for its activation date."""

    code = "KEY-NOT-ACTIVE"
    hint = "activate the key in DSM"


class KeyDeactivated(RefusalError):
    """The key is deactivated: it may open, but no longer seal."""

    code = "KEY-DEACTIVATED"
    hint = "rotate the key in DSM; keep the deactivated one, it opens what is stored"


class KeyUnsuitable(RefusalError):
    """The key is no AES key, or lacks ENCRYPT or DECRYPT."""

    code = "KEY-UNSUITABLE"
    hint = "name an AES key whose operations include ENCRYPT and DECRYPT"


class DenialError(ProviderError):
    """An explicit word that the key must not be used."""

    rpc_code = RpcCode.FAILED_PRECONDITION
    meaning = Meaning.DENIED


class KeyDisabled(DenialError):
    """Somebody disabled the key."""

    code = "KEY-DISABLED"
    hint = "enable the key in DSM, or rotate to another"


class KeyCompromised(DenialError):
    """Somebody revoked the key as compromised."""

    code = "KEY-COMPROMISED"
    hint = "rotate the key in DSM, then rewrite everything that is encrypted"


class KeyDestroyed(DenialError):
    """The key's material is gone."""

    code = "KEY-DESTROYED"
    hint = "use DSM's key undo if it is on; otherwise restore from a backup"


def error_classes() -> tuple[type[KmsError], ...]:
    """Return every error with a code of its own, in the order of the tree."""
    found: list[type[KmsError]] = []
    waiting: list[type[KmsError]] = [KmsError]
    while waiting:
        cls = waiting.pop(0)
        # Not "has no subclasses": one made elsewhere must not take its parent away.
        if "code" in vars(cls):
            found.append(cls)
        waiting = cls.__subclasses__() + waiting
    return tuple(found)

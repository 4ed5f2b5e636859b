"""DsmKeyProvider: the core's KeyProvider over Fortanix DSM's REST API.

Three calls of DSM (dsm-api.md, 2.1, 3.1, 3.2), each with a session's bearer token:

- describe: POST /crypto/v1/keys/info, ``view=json``. A look-up by kid adds
  ``show_destroyed=true``, since DSM says of a destroyed key otherwise only that it does
  not exist. A look-up by name does not: no source says that a destroyed key gives its
  name free, nor which of the two such a look-up would return. Deleted keys are never
  asked for: they are not found, by name or by kid.
- encrypt: POST /crypto/v1/encrypt, AES-GCM with a tag of 128 bits, always by kid and
  never with a nonce of ours (``aes.random_iv`` may forbid it).
- decrypt: POST /crypto/v1/decrypt, by kid, with the nonce that was stored.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Final

from adapters_dsm.answers import (
    IV_BYTES,
    TAG_BYTES,
    Answer,
    read_ciphertext,
    read_key,
    read_plaintext,
)
from adapters_dsm.breaker import Breaker
from adapters_dsm.calls import Calls
from adapters_dsm.credential_files import Credentials
from adapters_dsm.endpoints import Endpoints, Node
from adapters_dsm.exchange import Request
from adapters_dsm.gate import RefusalGate
from adapters_dsm.refusals import NoRefusalStore, RefusalStore
from adapters_dsm.retries import Retries
from adapters_dsm.session import Sessions
from adapters_dsm.settings import as_kid
from adapters_dsm.statuses import OK, refusal
from adapters_dsm.ways import Ways
from kms_core.errors import KeyNotFound, SealedSeedNotAuthentic
from kms_core.limits import MAX_SEED_BYTES
from kms_core.pacer import Pacer
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider


if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from adapters_dsm.events import CredentialDoubted
    from adapters_dsm.settings import DsmSettings, Endpoint
    from kms_core.ports import Clock, Randomness, Telemetry


START_GAP: Final = 16
"""Event-loop iterations between the starts of two encrypts or decrypts; each takes some
20 us when nothing else runs, so that a start waits for less than DSM takes.
"""

_INFO_BY_NAME: Final = "/crypto/v1/keys/info?view=json"
_INFO_BY_KID: Final = "/crypto/v1/keys/info?view=json&show_destroyed=true"
_ENCRYPT: Final = "/crypto/v1/encrypt"
_DECRYPT: Final = "/crypto/v1/decrypt"


class DsmKeyProvider(KeyProvider):
    """The configured key of one DSM.

    Nothing is asked, opened or read before the first call. All calls must come from one
    event loop.

    Args:
        settings: Where DSM is, which key, which credential.
        clock: Time; ``monotonic`` must be the event loop's.
        randomness: Jitter between attempts.
        telemetry: Gets a ProviderCallFinished for each request to DSM, and what
            ``events`` describes.
        environ: The process' environment: ``HTTPS_PROXY``, ``NO_PROXY``,
            ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.
        refusals: What is remembered of refused logins across restarts.

    Raises:
        ValueError: ``HTTPS_PROXY`` is no URL of an HTTP proxy; it is not quoted.
    """

    def __init__(  # noqa: PLR0913 - the ports, by name
        self,
        settings: DsmSettings,
        *,
        clock: Clock,
        randomness: Randomness,
        telemetry: Telemetry,
        environ: Mapping[str, str],
        refusals: RefusalStore | None = None,
    ) -> None:
        self._selector = settings.selector
        self._credentials = Credentials(settings.credential, clock, telemetry)
        self._gate = RefusalGate(clock, refusals or NoRefusalStore())

        def node(endpoint: Endpoint) -> Node:
            ways = Ways(endpoint, settings, clock, telemetry, environ)
            sessions = Sessions(ways, self._credentials, self._gate, clock, telemetry)
            return Node(endpoint.authority, ways, sessions, Breaker(clock))

        nodes = tuple(node(endpoint) for endpoint in settings.endpoints)
        self._endpoints = Endpoints(nodes, self._credentials, clock, telemetry)
        self._calls = Calls(self._endpoints, Retries(clock, randomness), clock)
        self._pacer = Pacer(START_GAP)
        self._closing: asyncio.Task[None] | None = None

    @property
    def credential_expires_at(self) -> dt.datetime | None:
        """When the credential ends: its certificate or JWT, whichever is first.

        None for an API key, and before the files were read.
        """
        latest = self._credentials.latest
        return None if latest is None else latest.expires_at

    @property
    def credential_doubts(self) -> tuple[CredentialDoubted, ...]:
        """What a person should do about the credential, as of the last look at it."""
        return self._credentials.doubts

    def retry_credential_now(self) -> None:
        """Let the next ``describe`` offer a refused credential again (SIGHUP)."""
        self._gate.open_now()

    async def renew(self) -> None:
        """Make later calls use a new session and new connections."""
        await self._endpoints.renew()

    async def aclose(self) -> None:
        """End the session, within 2 s, and all connections; raises nothing.

        Calls in flight fail as soon as they need a session; drain them first.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._endpoints.aclose()
        await self._gate.aclose()

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        if kid is None and self._selector.name is not None:
            body = _json(name=self._selector.name)
            request = Request("describe", "", _INFO_BY_NAME, body)
            asked = None
        else:
            asked = _known(kid or self._selector.kid or "")
            request = Request("describe", asked, _INFO_BY_KID, _json(kid=asked))

        def read(answer: Answer, where: str) -> KeyDescription:
            _require_ok("describe", answer, where)
            return read_key(answer, asked, where)

        self._endpoints.look_around()
        return await self._calls.ask(request, read, deadline, by_timer=True)

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        key = _known(kid)
        optional = {} if aad is None else {"ad": _base64(aad)}
        body = _json(
            key={"kid": key},
            alg="AES",
            mode="GCM",
            plain=_base64(plaintext),
            tag_len=TAG_BYTES * 8,
            **optional,
        )

        def read(answer: Answer, where: str) -> Ciphertext:
            _require_ok("encrypt", answer, where)
            return read_ciphertext(answer, key, plaintext, where)

        await self._pacer.turn()
        request = Request("encrypt", key, _ENCRYPT, body)
        return await self._calls.ask(request, read, deadline)

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        key = _check_sealed(kid, ciphertext)
        optional = {} if aad is None else {"ad": _base64(aad)}
        body = _json(
            key={"kid": key},
            alg="AES",
            mode="GCM",
            cipher=_base64(ciphertext.cipher),
            iv=_base64(ciphertext.iv),
            tag=_base64(ciphertext.tag),
            **optional,
        )

        def read(answer: Answer, where: str) -> bytes:
            _require_ok("decrypt", answer, where)
            return read_plaintext(answer, key, len(ciphertext.cipher), where)

        await self._pacer.turn()
        request = Request("decrypt", key, _DECRYPT, body)
        return await self._calls.ask(request, read, deadline)


def _check_sealed(kid: str, ciphertext: Ciphertext) -> str:
    """Return the kid if DSM can be asked about *ciphertext* at all.

    kid and lengths come from what etcd holds, under a format that binds none of them
    (the Go plugin's). We and the Go plugin only ever wrote UUIDs, 16-byte tags and
    nonces of the length that DSM chose, so anything else is damaged or forged; a
    shortened tag, which DSM may accept, would make a forgery cheaper.
    """
    key = as_kid(kid)
    if key is None:
        raise SealedSeedNotAuthentic("the ciphertext names a key that is not a UUID")
    if len(ciphertext.tag) != TAG_BYTES or len(ciphertext.iv) not in IV_BYTES:
        raise SealedSeedNotAuthentic("the ciphertext's tag or nonce has a wrong length")
    if not 0 < len(ciphertext.cipher) <= MAX_SEED_BYTES:
        raise SealedSeedNotAuthentic("the ciphertext is empty or longer than any seed")
    return key


def _known(kid: str) -> str:
    key = as_kid(kid)
    if key is None:
        raise KeyNotFound("no key of DSM has an id that is not a UUID")
    return key


def _require_ok(operation: str, answer: Answer, where: str) -> None:
    if answer.status != OK:
        raise refusal(operation, where, answer)


def _json(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")

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
import functools
import json
from typing import TYPE_CHECKING, Final, TypeVar

import httpx

from adapters_dsm.answers import (
    IV_BYTES,
    TAG_BYTES,
    Answer,
    read_ciphertext,
    read_key,
    read_plaintext,
)
from adapters_dsm.exchange import Attempt, Exchanges, Request
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.pool import Route
from adapters_dsm.proxies import proxy_for
from adapters_dsm.retries import Retries
from adapters_dsm.session import Session, Sessions
from adapters_dsm.settings import as_kid
from adapters_dsm.statuses import OK, refusal
from adapters_dsm.tls import build_context
from adapters_dsm.transport import Connections
from kms_core.errors import KeyNotFound, SealedSeedNotAuthentic
from kms_core.limits import MAX_SEED_BYTES
from kms_core.pacer import Pacer
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters_dsm.settings import DsmSettings
    from kms_core.ports import Clock, Randomness, Telemetry


START_GAP: Final = 16
"""Event-loop iterations between the starts of two encrypts or decrypts; each takes some
20 us when nothing else runs, so that a start waits for less than DSM takes.
"""

T = TypeVar("T")


class DsmKeyProvider(KeyProvider):
    """The configured key of one DSM.

    Nothing is asked, opened or read before the first call. All calls must come from one
    event loop.

    Args:
        settings: Where DSM is, which key, which credential.
        clock: Time; ``monotonic`` must be the event loop's.
        randomness: Jitter between attempts.
        telemetry: Gets a ProviderCallFinished for each request to DSM.
        environ: The process' environment: ``HTTPS_PROXY``, ``NO_PROXY``,
            ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.

    Raises:
        ValueError: ``HTTPS_PROXY`` is no URL of an HTTP proxy; it is not quoted.
    """

    def __init__(
        self,
        settings: DsmSettings,
        *,
        clock: Clock,
        randomness: Randomness,
        telemetry: Telemetry,
        environ: Mapping[str, str],
    ) -> None:
        endpoint = settings.endpoint
        self._selector = settings.selector
        self._clock = clock
        self._retries = Retries(clock, randomness)
        self._pacer = Pacer(START_GAP)
        self._connections = Connections(
            Route(
                endpoint=endpoint,
                proxy=proxy_for(endpoint, environ),
                build_context=functools.partial(
                    build_context, settings.ca_file, environ
                ),
                max_connections=settings.max_connections,
                keepalive_s=settings.keepalive_s,
            ),
            clock,
        )
        self._exchanges = Exchanges(
            self._connections, endpoint, settings.user_agent, clock, telemetry
        )
        self._sessions = Sessions(self._exchanges, endpoint, settings.api_key, clock)
        self._closing: asyncio.Task[None] | None = None
        crypto = f"{endpoint.base_url}/crypto/v1"
        self._info_by_name = httpx.URL(f"{crypto}/keys/info?view=json")
        self._info_by_kid = httpx.URL(
            f"{crypto}/keys/info?view=json&show_destroyed=true"
        )
        self._encrypt_url = httpx.URL(f"{crypto}/encrypt")
        self._decrypt_url = httpx.URL(f"{crypto}/decrypt")

    def retry_credential_now(self) -> None:
        """Let the next ``describe`` offer a refused credential again (SIGHUP)."""
        self._sessions.retry_credential_now()

    async def renew(self) -> None:
        """Make later calls use a new session and new connections."""
        self._sessions.renew()
        await self._connections.renew()

    async def aclose(self) -> None:
        """End the session, within 2 s, and all connections; raises nothing.

        Calls in flight fail as soon as they need a session; drain them first.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._sessions.aclose()
        await self._connections.aclose()

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        if kid is None and self._selector.name is not None:
            body = _json(name=self._selector.name)
            request = Request("describe", "", self._info_by_name, body)
            asked = None
        else:
            asked = _known(kid or self._selector.kid or "")
            request = Request("describe", asked, self._info_by_kid, _json(kid=asked))

        def read(answer: Answer, where: str) -> KeyDescription:
            _require_ok("describe", answer, where)
            return read_key(answer, asked, where)

        return await self._ask(request, read, deadline, by_timer=True)

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
        request = Request("encrypt", key, self._encrypt_url, body)
        return await self._ask(request, read, deadline)

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
        request = Request("decrypt", key, self._decrypt_url, body)
        return await self._ask(request, read, deadline)

    async def _ask(
        self,
        request: Request,
        read: Callable[[Answer, str], T],
        deadline: float,
        *,
        by_timer: bool = False,
    ) -> T:
        async def attempt(this: Attempt) -> T:
            session = self._sessions.usable()
            if session is None:
                session = await self._session(this, by_timer=by_timer)
            try:
                return await self._ask_in(session, request, read, this)
            except AttemptFailed as failure:
                answer = failure.answer
                if answer is None or not self._sessions.doubts(session, answer):
                    raise
            # Once more, with another session; what it says is believed.
            self._sessions.drop(session, answer)
            session = await self._session(this, by_timer=by_timer)
            return await self._ask_in(session, request, read, this)

        return await self._retries.run(attempt, deadline)

    async def _ask_in(
        self,
        session: Session,
        request: Request,
        read: Callable[[Answer, str], T],
        attempt: Attempt,
    ) -> T:
        session.used_at = self._clock.monotonic()
        result = await self._exchanges.ask(
            request, session.authorization, read, attempt
        )
        session.proven_at = self._clock.monotonic()
        return result

    async def _session(self, attempt: Attempt, *, by_timer: bool) -> Session:
        left_s = attempt.ends_at - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await self._sessions.obtain(by_timer=by_timer)
        except TimeoutError:
            pass
        # The login goes on: it has its own time, and the next attempt may find it done.
        raise AttemptFailed(attempt.too_late("login", left_s), hung=True)


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

"""What goes wrong during a soak: faults of the emulator by name, and who brings them.

Two things are left out on purpose. What only DSM can know, a plaintext or a nonce of
the right form that is another one: the adapter can't tell. And a refused login, after
which the adapter does not try again for half a minute and more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from attrs import define, field, frozen


if TYPE_CHECKING:
    import random
    from pathlib import Path


API_KEY_FILE: Final = "api-key"
MIGRATION_S: Final = 60.0
CRYPTO: Final = "/crypto/v1/*"
ENCRYPT: Final = "/crypto/v1/encrypt"
DECRYPT: Final = "/crypto/v1/decrypt"
ANY_PATH: Final = (None, CRYPTO, ENCRYPT, DECRYPT, "/crypto/v1/keys/info")

_CONTROL_S = 30.0


@frozen
class Disturbance:
    """One way in which something goes wrong.

    Attributes:
        faults: What the emulator is told to do, all at once.
        paths: Where; one of them is chosen.
        action: What else is done: ``freeze``, ``kill-sessions``, ``rekey``,
            ``disable``, ``new-secret``.
    """

    faults: tuple[dict[str, Any], ...] = ()
    paths: tuple[str | None, ...] = (None,)
    action: str | None = None


def _on(kind: str, *paths: str | None, **more: Any) -> Disturbance:
    return Disturbance(({"name": kind} | more,), paths or (None,))


def _anew(kind: str) -> Disturbance:
    """Return one of connecting, which connections that stand would not meet."""
    return Disturbance(({"name": kind}, {"name": "reset", "count": 100}))


def _status(status: int, **more: Any) -> Disturbance:
    return _on("status", CRYPTO, ENCRYPT, DECRYPT, status=status, **more)


DISTURBANCES: Final[dict[str, Disturbance]] = {
    "slow": _on("latency", *ANY_PATH, ms=200, jitter_ms=300),
    "long tail": _on("latency", *ANY_PATH, ms=5, tail_ms=4000, tail_share=0.1),
    "hang": _on("hang", *ANY_PATH, count=20),
    "session lost": _on("session-lost", *ANY_PATH, count=3),
    "close idle": _on("close-idle"),
    "refuse": _anew("refuse"),
    "stall accept": _anew("stall-accept"),
    "reset on accept": _anew("reset-on-accept"),
    "stall handshake": _anew("stall-handshake"),
    "expired certificate": _anew("tls-expired"),
    "wrong host": _anew("tls-wrong-host"),
    "unknown CA": _anew("tls-unknown-ca"),
    "TLS 1.1": _anew("tls-1.1"),
    **{f"{status}": _status(status) for status in (400, 401, 403, 404, 408, 423)},
    **{f"{status}": _status(status) for status in (500, 502, 503, 504)},
    "429": _status(429),
    "429 with a wait": _status(429, retry_after="1"),
    "503 with a page": _status(503, body="html"),
    "401 once": _status(401, count=1),
    "403 once": _status(403, count=1),
    "redirect": _on("redirect", *ANY_PATH, location="https://127.0.0.1:1{path}"),
    "reset": _on("reset", *ANY_PATH),
    "hang up": _on("hang-up", *ANY_PATH),
    "no kid": _on("drop-field", CRYPTO, field="kid"),
    "no tag": _on("drop-field", ENCRYPT, field="tag"),
    "no plain": _on("drop-field", DECRYPT, field="plain"),
    "kid null": _on("set-field", CRYPTO, field="kid", value=None),
    "plain a number": _on("set-field", DECRYPT, field="plain", value=5),
    "short tag": _on("resize-field", ENCRYPT, field="tag", size=12),
    "short plain": _on("resize-field", DECRYPT, field="plain", size=31),
    "wrong kid": _on("wrong-kid", CRYPTO),
    "not JSON": _on("not-json", CRYPTO),
    "truncated JSON": _on("truncated-json", CRYPTO),
    "huge body": _on("huge-body", CRYPTO, size=1_000_000),
    "gzip": _on("gzip", CRYPTO),
    "error text": _on("error-text", CRYPTO),
    "no content": _on("no-content", CRYPTO),
    "reset after": _on("reset-after", *ANY_PATH),
    "end before the answer": _on("disconnect", *ANY_PATH, stage="start"),
    "end in the headers": _on("disconnect", *ANY_PATH, stage="headers"),
    "end in the body": _on("disconnect", *ANY_PATH, stage="body"),
    "bad status line": _on("bad-status-line", *ANY_PATH),
    "bad chunk": _on("bad-chunk", *ANY_PATH),
    "oversized headers": _on("oversized-headers", *ANY_PATH),
    "short body": _on("short-body", *ANY_PATH),
    "long body": _on("long-body", *ANY_PATH),
    "stall headers": _on("stall-headers", *ANY_PATH, count=20),
    "trickle": _on("trickle", *ANY_PATH, ms=20),
    "freeze": Disturbance(action="freeze"),
    "sessions killed": Disturbance(action="kill-sessions"),
    "rotation": Disturbance(action="rekey"),
    "key disabled": Disturbance(action="disable"),
    "API key replaced": Disturbance(action="new-secret"),
}


class Control:
    """The emulator's control API, over one kept connection.

    Args:
        described: What the emulator said of itself.
        folder: Its folder.
        key_name: The key.
    """

    def __init__(self, described: dict[str, Any], folder: Path, key_name: str) -> None:
        context = ssl.create_default_context(cafile=described["ca_file"])
        token = (folder / "control-token").read_text().strip()
        self._pid: int = described["pid"]
        self._app_id: str = described["app_id"]
        self._folder = folder
        self._key_name = key_name
        self._client = httpx.AsyncClient(
            base_url=f"{described['url']}/emulator/v1/",
            verify=context,
            trust_env=False,
            timeout=2.0,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def act(self, action: str, seconds: float) -> None:
        """Do one of the actions of a Disturbance, for *seconds* if it takes time."""
        if action == "freeze":
            os.kill(self._pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(self._pid, signal.SIGCONT)
        elif action == "kill-sessions":
            await self.ask("kill-sessions")
        elif action == "rekey":
            await self.key("rekey")
        elif action == "new-secret":
            await self._replace_api_key()
        else:
            await self.key("disable")
            try:
                await asyncio.sleep(seconds)
            finally:
                await self.key("enable")

    async def _replace_api_key(self) -> None:
        """Give the app another API key, the old one being good for a while."""
        answer = await self.ask(
            "reset-secret", app=self._app_id, migration_seconds=MIGRATION_S
        )
        # As a careful operator does it: nobody reads half of it.
        draft = self._folder / "api-key.draft"
        draft.touch(0o600)
        draft.write_text(answer["api_key"])
        draft.replace(self._folder / API_KEY_FILE)

    async def key(self, action: str) -> None:
        """Change the key that bears the name."""
        await self.ask(action, name=self._key_name)

    async def ask(self, command: str, /, **arguments: Any) -> Any:
        """Give a command until it is answered: faults may hit this connection, too.

        Raises:
            TimeoutError: There was none for 30 s.
            httpx.HTTPStatusError: The emulator refuses.
        """
        async with asyncio.timeout(_CONTROL_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await self._client.post(command, json=arguments)
                    return answer.raise_for_status().json()
                await asyncio.sleep(0.1)


@define
class Troublemaker:
    """Brings disturbances one after another, chosen by a seed.

    Attributes:
        control: The emulator.
        dice: Chooses.
        longest_s: How long one lasts at most.
        brought: How often each was brought, by name.
    """

    control: Control
    dice: random.Random
    longest_s: float
    brought: dict[str, int] = field(factory=dict)

    async def run(self) -> None:
        """Go on until cancelled; each name comes before any comes again."""
        waiting: list[str] = []
        while True:
            if not waiting:
                waiting = list(DISTURBANCES)
                self.dice.shuffle(waiting)
            name = waiting.pop()
            self.brought[name] = self.brought.get(name, 0) + 1
            await self._bring(DISTURBANCES[name])
            await asyncio.sleep(self.dice.uniform(0.0, self.longest_s / 3))

    async def _bring(self, chosen: Disturbance) -> None:
        seconds = self.dice.uniform(0.2, self.longest_s)
        path = self.dice.choice(chosen.paths)
        try:
            for fault in chosen.faults:
                # They end by themselves: one may keep us from saying so.
                limits = {"seconds": seconds} | ({"path": path} if path else {})
                await self.control.ask("fault", **limits | fault)
            if chosen.action is None:
                await asyncio.sleep(seconds)
            else:
                await self.control.act(chosen.action, seconds)
        finally:
            await self.control.ask("clear-faults")

"""Answering one request while faults are armed."""

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate

from attrs import evolve, frozen

from dsm_emulator.defects import DEFAULT_SIZE, Outgoing, spoil
from dsm_emulator.delivery import Line, deliver, send_whole
from dsm_emulator.dsm import Dsm
from dsm_emulator.fault import BodyForm, Fault
from dsm_emulator.fault_kinds import FaultKind
from dsm_emulator.faults import Subject
from dsm_emulator.headers import Header
from dsm_emulator.http_message import Answer


_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_HTML = b"text/html"
_NO_CONTENT = 204
_TEMPORARY_REDIRECT = 307
_MULTIPLE_CHOICES = 300


@frozen
class Outcome:
    """What became of a request, for the journal.

    Attributes:
        status: The status that was sent; None when none was.
        kid: The key that the answer was about.
        faults: What struck, in its order.
    """

    status: int | None
    kid: str | None
    faults: tuple[FaultKind, ...] = ()


@frozen
class Faulty:
    """One request, and the faults that may be about it.

    Attributes:
        subject: What the faults look at.
        headers: Those that every answer carries.
        line: The way to the client.
        ask: Has DSM answer; not called when something stands in for DSM.
        record: Writes into the journal; called once, before anything is sent.
    """

    dsm: Dsm
    subject: Subject
    headers: list[Header]
    line: Line
    ask: Callable[[], Answer]
    record: Callable[[Outcome], None]

    async def answer(self) -> None:
        """Do what the faults want, in their order."""
        faults = self.dsm.faults
        before = faults.before(self.subject)
        if before.loses_sessions:
            self.dsm.kill_sessions()
        for released in before.hangs:
            with faults.hanging():
                goes_on = await self.line.hang(released)
            if not goes_on:
                self.record(Outcome(None, None, before.kinds))
                return
        if before.idle_s is not None:
            self.line.connection.close_when_idle_for(before.idle_s)
        delay_s = before.delay_s + self.dsm.latency_ms / 1000
        if delay_s:
            await asyncio.sleep(delay_s)
        if before.stand_in is not None:
            await self._stand_in(before.stand_in, before.kinds)
        else:
            await self._pass_on(self.ask(), before.kinds)

    async def _pass_on(self, answer: Answer, kinds: tuple[FaultKind, ...]) -> None:
        outgoing = _well(answer)
        if answer.status < _MULTIPLE_CHOICES and isinstance(answer.json, dict):
            defects = self.dsm.faults.defects(self.subject)
            if defects:
                outgoing = spoil(answer.json, defects, status=answer.status)
                kinds = (*kinds, *(fault.kind for fault in defects))
        outgoing = evolve(outgoing, headers=(*self.headers, *outgoing.headers))
        struck = self.dsm.faults.on_wire(self.subject)
        status: int | None = outgoing.status
        if struck is not None:
            kinds = (*kinds, struck.kind)
            status = None if struck.kind in _SILENT else status
        self.record(Outcome(status, answer.kid, kinds))
        await deliver(outgoing, self.line, struck, self.dsm.faults)

    async def _stand_in(self, fault: Fault, kinds: tuple[FaultKind, ...]) -> None:
        if fault.kind in {FaultKind.RESET, FaultKind.HANG_UP}:
            self.record(Outcome(None, None, kinds))
            if fault.kind is FaultKind.RESET:
                self.line.connection.reset()
            else:
                self.line.close()
            await self.line.wait_until_gone()
            return
        status, body = fault.status or _TEMPORARY_REDIRECT, b""
        headers = [*self.headers]
        if fault.kind is FaultKind.REDIRECT:
            location = (fault.location or "").replace("{path}", self.subject.path)
            headers.append((b"location", location.encode()))
        else:
            content_type, body = _status_body(fault)
            headers += self._retry_after(fault)
            if content_type:
                headers.append((b"content-type", content_type))
        self.record(Outcome(status, None, kinds))
        await send_whole(self.line.send, status, headers, body)

    def _retry_after(self, fault: Fault) -> list[Header]:
        if fault.retry_date_s is not None:
            now_s = self.dsm.clock.now() + self.dsm.headers.date_skew_s
            date = formatdate(now_s + fault.retry_date_s, usegmt=True)
            return [(b"retry-after", date.encode())]
        if fault.retry_after is not None:
            return [(b"retry-after", fault.retry_after.encode())]
        return []


# Of these the client sees no status, or it can't tell.
_SILENT = frozenset({FaultKind.RESET_AFTER, FaultKind.DISCONNECT})


def _well(answer: Answer) -> Outgoing:
    content_type, body = answer.body()
    headers = ((b"content-type", content_type),) if content_type else ()
    return Outgoing(answer.status, headers, body)


def _status_body(fault: Fault) -> tuple[bytes, bytes]:
    text = fault.text
    if fault.body is BodyForm.EMPTY or fault.status == _NO_CONTENT:
        return b"", b""
    if fault.body is BodyForm.JSON:
        return _JSON, json.dumps({"message": text}).encode()
    if fault.body is BodyForm.JSON_STRING:
        return _JSON, json.dumps(text).encode()
    if fault.body is BodyForm.HTML:
        return _HTML, f"<html><body><h1>{text}</h1></body></html>\n".encode()
    if fault.body is BodyForm.HUGE:
        size = DEFAULT_SIZE if fault.size is None else fault.size
        return _TEXT, text.encode().ljust(size, b".")
    return _TEXT, text.encode()

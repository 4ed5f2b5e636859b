"""What may happen on the wire at each stage of a request, as kube-apiserver gets it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

import pytest
from attrs import frozen
from tests.contract.dsm_faults.support import WELL, Front
from tests.unit.adapters_dsm.support import API_KEY, KID, Asked, http, until

from kms_core.events import ProviderCallFinished
from kms_core.fakes import settle


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import trustme
    from tests.contract.dsm_faults.support import TinyDsm
    from tests.unit.adapters_dsm.support import RawServer


UNREACHABLE = "DSM-UNREACHABLE"
UNTRUSTED = "DSM-UNTRUSTED"
REFUSED = "DSM-ANSWER-REFUSED"
TIMEOUT = "DSM-TIMEOUT"
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = STATUS_LINE + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = 100_000


@frozen
class Sent:
    """Bytes instead of an answer, and how the connection ends.

    Attributes:
        raw: What is sent.
        expected: Code of the error.
        then: ``end`` (a FIN), ``reset`` (an RST), or ``stay`` open.
        varies: Whether versions of aiohttp differ on it: some read over what is wrong.
    """

    raw: Callable[[bytes], bytes]
    expected: str
    then: str = "end"
    varies: bool = False


def only(raw: bytes) -> Callable[[bytes], bytes]:
    return lambda _: raw


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda good: good[: int(len(good) * share)]


def head_of(good: bytes) -> bytes:
    return good.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def chunked(good: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    body = good.partition(b"\r\n\r\n")[2]
    parts = [body[at : at + 10] for at in range(0, len(body), 10)]
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + end


def first_line(raw: bytes) -> Callable[[bytes], bytes]:
    return lambda good: raw + good.partition(b"\r\n")[2]


def with_header(*lines: bytes) -> Callable[[bytes], bytes]:
    added = b"".join(line + b"\r\n" for line in lines)
    return lambda good: good.replace(b"\r\n", b"\r\n" + added, 1)


STAGES: Final = {
    "an end after the request": Sent(only(b""), UNREACHABLE),
    "a reset after the request": Sent(only(b""), UNREACHABLE, "reset"),
    "an end in the status line": Sent(only(STATUS_LINE[:9]), UNREACHABLE),
    "an end after the status line": Sent(only(STATUS_LINE), UNREACHABLE),
    "an end in the headers": Sent(only(STATUS_LINE + b"Content-Le"), UNREACHABLE),
    "an end after the headers": Sent(head_of, UNREACHABLE),
    "a reset after the headers": Sent(head_of, UNREACHABLE, "reset"),
    "an end in the body": Sent(cut(0.9), UNREACHABLE),
    "a reset in the body": Sent(cut(0.9), UNREACHABLE, "reset"),
    "an end in a chunk's size": Sent(only(CHUNKED + b"1"), UNREACHABLE),
    "an end in a chunk": Sent(only(CHUNKED + b"20\r\n{"), UNREACHABLE),
    "an end before the last chunk": Sent(lambda g: chunked(g, end=b""), UNREACHABLE),
    "an end in the last chunk": Sent(lambda g: chunked(g, end=b"0\r\n"), UNREACHABLE),
}
STATUS_LINES: Final = {
    name: Sent(first_line(raw), REFUSED)
    for name, raw in {
        "no status": b"HTTP/1.1\r\n",
        "a status of letters": b"HTTP/1.1 abc OK\r\n",
        "a status of two digits": b"HTTP/1.1 20 OK\r\n",
        "a status of four digits": b"HTTP/1.1 2000 OK\r\n",
        "a negative status": b"HTTP/1.1 -200 OK\r\n",
        "HTTP/9.9": b"HTTP/9.9 200 OK\r\n",
        "another protocol": b"ICY 200 OK\r\n",
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
        "a request": b"GET / HTTP/1.1\r\n",
        "noise": b"\x00\xff\x16\x03\r\n",
        "a long reason": b"HTTP/1.1 200 " + b"x" * LONG + b"\r\n",
    }.items()
}
CHUNKS: Final = {
    name: Sent(only(CHUNKED + raw), REFUSED)
    for name, raw in {
        "a chunk of size zz": b"zz\r\n{}\r\n0\r\n\r\n",
        "a chunk of negative size": b"-2\r\n{}\r\n0\r\n\r\n",
        "a chunk of size 2^80": b"1" + b"0" * 20 + b"\r\n{}\r\n0\r\n\r\n",
        "a chunk without an end of line": b"2\r\n{}xx\r\n0\r\n\r\n",
    }.items()
}
HEADERS: Final = {
    "a header of 100 kB": Sent(with_header(b"X: " + b"x" * LONG), REFUSED),
    "a name of 100 kB": Sent(with_header(b"x" * LONG + b": x"), REFUSED),
    "a header without a colon": Sent(with_header(b"nonsense"), REFUSED),
    "a name with a space": Sent(with_header(b"A B: c"), REFUSED),
    "a NUL in a header": Sent(with_header(b"A: \x00"), REFUSED, varies=True),
    "two lengths": Sent(with_header(b"Content-Length: 3"), REFUSED),
    "a negative length": Sent(
        only(STATUS_LINE + b"Content-Length: -1\r\n\r\n{}"), REFUSED
    ),
    "a length in hex": Sent(
        only(STATUS_LINE + b"Content-Length: 0x2\r\n\r\n{}"), REFUSED
    ),
    "a length and chunks": Sent(with_header(b"Transfer-Encoding: chunked"), REFUSED),
    "a length that is too large": Sent(
        lambda g: g.replace(b"Content-Length: ", b"Content-Length: 9"), UNREACHABLE
    ),
    "a length that is too small": Sent(
        lambda g: STATUS_LINE + b"Content-Length: 5\r\n\r\n" + g[-20:], REFUSED
    ),
    "a length of gigabytes": Sent(
        only(STATUS_LINE + b"Content-Length: 99999999999\r\n\r\n" + b" " * 300_000),
        REFUSED,
        "stay",
    ),
    "a body without end": Sent(
        only(CHUNKED + (b"2000\r\n" + b" " * 0x2000 + b"\r\n") * 40), REFUSED, "stay"
    ),
    "no length, ended by the end": Sent(
        lambda g: STATUS_LINE + b"\r\n" + g.partition(b"\r\n\r\n")[2], WELL
    ),
    "good chunks": Sent(chunked, WELL, "stay"),
    "100 Continue before it": Sent(
        lambda g: b"HTTP/1.1 100 Continue\r\n\r\n" + g, WELL, "stay"
    ),
    "a redirect elsewhere": Sent(
        only(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://127.0.0.1:1/\r\n"
            b"Content-Length: 0\r\n\r\n"
        ),
        REFUSED,
        "stay",
    ),
    "an upgrade": Sent(
        only(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
            b"Connection: upgrade\r\n\r\n"
        ),
        REFUSED,
    ),
    "a header that is not ASCII": Sent(
        with_header(b"X-Y: \xff\xfe"), WELL, "stay", varies=True
    ),
    "an odd request id": Sent(
        with_header(b"X-Request-Id: a b<script>\x7f"), WELL, "stay"
    ),
}
EVERYTHING: Final = STAGES | STATUS_LINES | CHUNKS | HEADERS


@pytest.mark.parametrize("stage", ["/session/auth", "/decrypt"])
@pytest.mark.parametrize("name", EVERYTHING)
async def test_decrypt_and_the_login_before_it(
    raw_front: Front, raw: RawServer, tiny: TinyDsm, name: str, stage: str
) -> None:
    sent, seed = EVERYTHING[name], raw_front.seed()
    sealed = await raw_front.encrypt(seed)
    await raw_front.provider.renew()

    async def spoil(asked: Asked, good: bytes) -> None:
        asked.send(sent.raw(good))
        if sent.then == "end":
            asked.end()
        elif sent.then == "reset":
            _reset(asked.writer)

    tiny.path, tiny.spoil = stage, spoil
    made = raw.connections
    code = await raw_front.outcome(raw_front.decrypt(sealed))
    assert code == sent.expected or (sent.varies and code in (WELL, REFUSED))
    # What can't heal is not tried again; what can is, but not without end.
    if sent.expected == REFUSED:
        assert raw.connections - made <= 2
    assert raw.connections - made <= 100
    tiny.spoil = None
    assert await raw_front.decrypt(sealed) == seed
    requests = [
        event.request_id
        for event in raw_front.telemetry.events
        if isinstance(event, ProviderCallFinished)
    ]
    assert not any("script" in request for request in requests)


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


HANGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "nothing": only(b""),
    "a part of the status line": only(STATUS_LINE[:9]),
    "a part of the headers": only(STATUS_LINE + b"A: b\r\n"),
    "the headers": head_of,
    "a part of the body": cut(0.9),
    "a part of a chunk": only(CHUNKED + b"20\r\n{"),
}


@pytest.mark.parametrize("name", HANGS)
async def test_silence_ends_with_the_call_s_deadline(
    raw_front: Front, tiny: TinyDsm, name: str
) -> None:
    seed = raw_front.seed()
    sealed = await raw_front.adapter_encrypt(KID, seed)

    async def spoil(asked: Asked, good: bytes) -> None:
        asked.send(HANGS[name](good))

    tiny.path, tiny.spoil = "/decrypt", spoil
    call = raw_front.adapter_decrypt(KID, sealed, within_s=0.2)
    assert await raw_front.outcome(call) == TIMEOUT
    tiny.spoil = None
    assert await raw_front.adapter_decrypt(KID, sealed) == seed


async def test_trickle_ends_with_the_call_s_deadline(
    raw_front: Front, tiny: TinyDsm
) -> None:
    sealed = await raw_front.adapter_encrypt(KID, raw_front.seed())

    async def spoil(asked: Asked, good: bytes) -> None:
        for at in range(len(good)):
            asked.send(good[at : at + 1])
            await asyncio.sleep(0.01)

    tiny.path, tiny.spoil = "/decrypt", spoil
    call = raw_front.adapter_decrypt(KID, sealed, within_s=0.2)
    assert await raw_front.outcome(call) == TIMEOUT


# Before HTTP.


async def _closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _closes_in_the_handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1)
    writer.close()


async def _resets_in_the_handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1)
    _reset(writer)


async def _speaks_plainly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1)
    writer.write(http(400, b"the plain HTTP request was sent to HTTPS port"))
    writer.close()


async def _alerts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(bytes.fromhex("15030300020228"))  # fatal, handshake_failure
    writer.close()


async def _says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


LISTENERS: Final = {
    "closes": (_closes, UNREACHABLE),
    "closes in the handshake": (_closes_in_the_handshake, UNREACHABLE),
    "resets in the handshake": (_resets_in_the_handshake, UNREACHABLE),
    "speaks plain HTTP": (_speaks_plainly, UNTRUSTED),
    "alerts": (_alerts, UNTRUSTED),
    "says nothing": (_says_nothing, TIMEOUT),
}


@pytest.mark.parametrize("name", LISTENERS)
async def test_whoever_took_the_port_of_dsm(
    raw_front: Front, raw: RawServer, name: str
) -> None:
    accept, expected = LISTENERS[name]
    seed = raw_front.seed()
    sealed = await raw_front.encrypt(seed)
    opaque = await raw_front.adapter_encrypt(KID, seed)
    await raw.stop()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await accept(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", raw.port) as other:
        if expected == TIMEOUT:
            call = raw_front.adapter_decrypt(KID, opaque, within_s=0.2)
        else:
            call = raw_front.decrypt(sealed)
        assert await raw_front.outcome(call) == expected
        # First, since a logout follows the renewal.
        other.close()
        for writer in writers:
            writer.transport.abort()
        await raw_front.provider.renew()
        await settle()
    await raw.start()
    assert await raw_front.decrypt(sealed) == seed


async def test_refused_connections(raw_front: Front, raw: RawServer) -> None:
    seed = raw_front.seed()
    sealed = await raw_front.encrypt(seed)
    await raw.stop()
    assert await raw_front.outcome(raw_front.decrypt(sealed)) == UNREACHABLE
    assert await raw_front.outcome(raw_front.encrypt(seed)) == UNREACHABLE
    await raw.start()
    assert await raw_front.decrypt(sealed) == seed


@pytest.mark.parametrize("names", [("another.test",), ("127.0.0.2",)])
async def test_certificate_of_another_host(
    raw_front: Front, raw: RawServer, names: tuple[str, ...]
) -> None:
    sealed = await raw_front.encrypt(raw_front.seed())
    await raw.stop()
    raw.names = names
    await raw.start()
    assert await raw_front.outcome(raw_front.decrypt(sealed)) == UNTRUSTED
    assert raw.asked[-1].path.endswith("/decrypt"), "nothing was sent there"


async def test_name_that_does_not_resolve(
    raw: RawServer, authority: trustme.CA, tmp_path: Path
) -> None:
    raw.names = ("localhost",)
    await raw.stop()
    await raw.start()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    url = f"https://localhost:{raw.port}"
    async with Front(url, ca_file, tmp_path / "kms.sock", API_KEY, "a key") as front:
        sealed = await front.encrypt(front.seed())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", _unknown)
            await front.provider.renew()
            assert await front.outcome(front.decrypt(sealed)) == UNREACHABLE
        assert await front.outcome(front.decrypt(sealed)) == WELL


async def _unknown(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_call_that_hangs_up_leaves_no_request_behind(
    raw_front: Front, raw: RawServer, tiny: TinyDsm
) -> None:
    seed = raw_front.seed()
    sealed = await raw_front.encrypt(seed)
    gone: list[asyncio.StreamWriter] = []

    async def spoil(asked: Asked, _: bytes) -> None:
        gone.append(asked.writer)

    tiny.path, tiny.spoil = "/decrypt", spoil
    call = asyncio.create_task(raw_front.decrypt(sealed))
    await until(lambda: len(gone) == 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(gone[0].transport.is_closing)
    tiny.spoil = None
    assert await raw_front.decrypt(sealed) == seed

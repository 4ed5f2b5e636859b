"""What is logged, who reads it, and what other processes may see."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters_grpc.client import CallFailed


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.daemon.support import Lab


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """Return the writing end of a pipe that nobody reads and that is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


async def test_status_answers_though_nobody_reads_stderr(
    lab: Lab, full_pipe: int
) -> None:
    daemon = lab.start(stderr=full_pipe, log_level="debug")
    await daemon.await_ok()
    async with daemon.client() as client:
        for _ in range(500):
            assert (await client.status()).healthz == "ok"
        sealed = await client.encrypt(lab.seed())
        for _ in range(5):
            await asyncio.gather(
                *(client.decrypt(sealed.ciphertext, "?") for _ in range(100)),
                return_exceptions=True,
            )
        assert (await client.status()).healthz == "ok"
        assert len(await client.decrypt(sealed.ciphertext, sealed.key_id)) == 32
    assert await asyncio.to_thread(daemon.stop) == 0


async def test_reader_that_went_away_does_not_end_the_daemon(lab: Lab) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        daemon = lab.start(stderr=writer, write_format=None)
        assert (await daemon.await_ok()).version == "v2beta1"
    finally:
        os.close(writer)


async def test_calls_are_logged_and_good_status_is_not(lab: Lab) -> None:
    daemon = lab.start(log_level="debug", protection="direct")
    await daemon.await_ok()
    async with daemon.client() as client:
        await client.status()
        sealed = await client.encrypt(lab.seed(), uid="u-1")
        await client.decrypt(sealed.ciphertext, sealed.key_id, uid="u-2\n\x1b[31m")
        with pytest.raises(CallFailed):
            await client.decrypt(b"damaged", sealed.key_id, uid="u-3")
    failed = daemon.await_line(event="kms call", uid="u-3")
    assert failed["level"] == "warning"
    assert failed["error"].startswith("SEALED-SEED-MALFORMED: ")
    assert daemon.lines(event="kms call", method="Status", rpc_code="OK") == []
    uids = [line["uid"] for line in daemon.lines(event="kms call") if "uid" in line]
    assert [u[:3] for u in uids] == ["u-1", "u-2", "u-3"]
    # One encrypt of DSM for the seed, and one decrypt that proves it.
    of_first = daemon.lines(event="dsm call", uid="u-1")
    assert [line["operation"] for line in of_first] == ["encrypt", "decrypt"]
    assert all(line["request_id"] for line in of_first)


async def test_text_format_has_one_line_for_each_event(lab: Lab) -> None:
    daemon = lab.start(log_format="text")
    await daemon.await_ok()
    assert daemon.stop() == 0
    for line in daemon.text().splitlines():
        assert line.startswith("time='")
        assert " event='" in line


async def test_other_processes_see_no_secret(shared: Lab) -> None:
    process = Path(f"/proc/{shared.daemon.process.pid}")
    assert shared.demo.api_key not in (process / "cmdline").read_text()
    with contextlib.suppress(PermissionError):
        assert shared.demo.api_key not in (process / "environ").read_text()
    limits = (process / "limits").read_text().splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core file"))
    assert core[4:6] == ["0", "0"]
    # Not dumpable: its entries belong to root, whoever runs it.
    assert (process / "environ").stat().st_uid == 0

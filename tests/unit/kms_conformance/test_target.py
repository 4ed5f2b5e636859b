from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kms_conformance.commands import pid_source, shell
from kms_conformance.target import Endpoint, EndpointRefused, Hook, Target


@pytest.mark.parametrize(
    ("text", "address", "grpc_target", "shown"),
    [
        ("/run/x.sock", "/run/x.sock", "unix:/run/x.sock", "unix:///run/x.sock"),
        ("unix:///run/x.sock", "/run/x.sock", "unix:/run/x.sock", "unix:///run/x.sock"),
        ("unix:///a%20b", "/a b", "unix:/a%20b", "unix:///a b"),
        ("unix:///@name", "\0name", "unix-abstract:name", "unix:///@name"),
        ("unix:///%FF", "/\udcff", "unix:/%FF", "unix:///\udcff"),
    ],
)
def test_endpoint_is_read_as_kube_apiserver_reads_it(
    text: str, address: str, grpc_target: str, shown: str
) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint.address == address
    assert endpoint.grpc_target == grpc_target
    assert str(endpoint) == shown
    assert endpoint.is_abstract == address.startswith("\0")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no endpoint"),
        ("run/x.sock", "no endpoint"),
        ("http://localhost/x", "no endpoint"),
        ("unix://run/x.sock", "would dial '/x.sock'; write unix:///run/x.sock"),
        ("unix://run", "would dial 'nothing'"),
        ("unix:x.sock", "no absolute path"),
        ("unix://[", "no URL"),
        ("unix:///a%00b", "no NUL"),
        ("/" + 107 * "a", "at most 107 bytes"),
        ("/" + 54 * "é", "at most 107 bytes"),
    ],
)
def test_endpoint_of_another_form_is_refused(text: str, match: str) -> None:
    with pytest.raises(EndpointRefused, match=match):
        Endpoint.parse(text)


async def test_command_is_done_when_its_shell_has_exited(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    # What it leaves behind holds its output open.
    pulled = await shell(f"tail -f /dev/null & echo $! > {pid_file}")()
    left = int(pid_file.read_text())
    os.kill(left, signal.SIGKILL)
    assert pulled.exit_code == 0


async def test_output_and_exit_code_of_a_command_are_kept() -> None:
    pulled = await shell("echo one; echo two >&2; exit 3")()
    assert pulled.exit_code == 3
    assert pulled.output == "one\ntwo"


async def test_end_of_what_a_command_printed_is_kept() -> None:
    pulled = await shell("head -c 1000000 /dev/zero | tr '\\0' é; echo; echo end")()
    assert pulled.output.endswith("\nend")
    assert len(pulled.output) <= 2000


async def test_command_that_does_not_end_is_killed_with_what_it_started(
    tmp_path: Path,
) -> None:
    pid_file = tmp_path / "pid"
    command = f"tail -f /dev/null & echo $! > {pid_file}; wait"
    pulled = await shell(command, timeout_s=0.5)()
    assert pulled.exit_code == -1
    assert "0.5 s" in pulled.output
    assert await asyncio.to_thread(has_ended, pid_file)


def has_ended(pid_file: Path) -> bool:
    status = Path("/proc", pid_file.read_text().strip(), "status")
    try:
        return "Z (zombie)" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_process_id_is_a_number_or_in_a_file(tmp_path: Path) -> None:
    assert pid_source("123")() == 123
    assert callable(pid_source("²"))  # a digit, and no number
    path = tmp_path / "pid"
    tell = pid_source(str(path))
    with pytest.raises(OSError, match="pid"):
        tell()
    path.write_text("5\n")
    assert tell() == 5
    path.write_text("6\n")
    assert tell() == 6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/x", "/x", True),
        ("/x", "/y/../x", True),
        ("/x", "/y", False),
        ("@x", "@x", True),
        ("@x", "/x", False),
    ],
)
def test_endpoint_is_known_by_another_path(one: str, other: str, *, same: bool) -> None:
    assert Endpoint(one).is_same(Endpoint(other)) is same


def test_target_offers_what_was_given(tmp_path: Path) -> None:
    endpoint = Endpoint("/x")
    assert not any(Target(endpoint).offers(hook) for hook in Hook)
    target = Target(
        endpoint,
        peer=endpoint,
        pulls={Hook.STOP: shell("true")},
        pid=lambda: 1,
        corpus=tmp_path,
    )
    offered = {hook for hook in Hook if target.offers(hook)}
    assert offered == {Hook.PEER, Hook.STOP, Hook.PID, Hook.CORPUS}

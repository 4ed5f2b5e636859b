from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.unit.k8s_sdkms_plugin.support import BASE, SECRET, written

from adapters_grpc.server import KmsServer
from k8s_sdkms_plugin import hardening
from k8s_sdkms_plugin.cli import main
from k8s_sdkms_plugin.metrics import key_id_hash
from k8s_sdkms_plugin.scrape import MAX_PAGE_BYTES
from kms_core.errors import KeyDisabled, KmsError, NotReady, ProviderUnreachable
from kms_core.fakes import RecordedTelemetry
from kms_core.service import KmsService, StatusAnswer


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


KEY_ID: Final = "sdkms.v1:4b3d13a8-2c3a-47dc-8779-311dad6843a2"
P: Final = "k8s_sdkms_plugin_"
ENDS: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
WITHIN_S: Final = 10.0


class Says(KmsService):
    """A service that answers Status as it is told."""

    def __init__(self, answer: StatusAnswer | KmsError) -> None:
        self._answer = answer

    def status(self) -> StatusAnswer:
        if isinstance(self._answer, KmsError):
            raise self._answer
        return self._answer


@contextlib.contextmanager
def served(path: Path, answer: StatusAnswer | KmsError) -> Iterator[Path]:
    """Serve KMS v2 at *path* in a thread of its own, for a command that blocks."""
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        server = KmsServer(
            Says(answer), RecordedTelemetry(), path, mode=0o600, gid=None
        )
        await server.start()
        started.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(0.0)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(WITHIN_S)
        yield path
    finally:
        stop.set()
        thread.join(WITHIN_S)


@contextlib.contextmanager
def page(content: bytes, status: int = 200) -> Iterator[str]:
    """Serve *content* over HTTP, whatever is asked; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(WITHIN_S)


def metrics(state: str, code: str = "", key_id: str = KEY_ID, more: str = "") -> bytes:
    """Return what a listener of ours could say."""
    lines = [
        f'{P}state{{state="{phase}"}} {float(phase == state)}'
        for phase in ("starting", "ready", "coasting", "degraded", "denied")
    ]
    lines.append(f'{P}key_id_info{{key_id_hash="{key_id_hash(key_id)}"}} 1.0')
    if code:
        lines.append(f'{P}trouble_info{{code="{code}"}} 1.0')
    return "\n".join([*lines, f"{P}local_keks 3.0", more, ""]).encode()


def asked(
    capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, dict[str, str]]:
    """Return exit code and lines of a `status`, by their label."""
    code = main(["status", *map(str, words)])
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert all(line.isprintable() for line in lines)
    return code, {line[:15].rstrip(): line[15:] for line in lines}


def asked_json(
    capsys: pytest.CaptureFixture[str], *words: str | Path
) -> dict[str, Any]:
    """Return what `status --json` prints."""
    code = main(["status", "--json", *map(str, words)])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["exit"] == code
    return answer


OK: Final = StatusAnswer("v2", "ok", KEY_ID)
WAITS: Final = NotReady(
    f"degraded, {ProviderUnreachable.code}: no route; {ProviderUnreachable.hint}"
)


@pytest.fixture(autouse=True)
def _process_of_the_tests_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "harden_process", lambda: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kms.sock"


# The socket alone.


def test_status_that_is_ok_needs_nothing_done(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, OK):
        code, lines = asked(capsys, "--socket", path)
    assert code == 0
    assert lines == {
        "Status": "ok, version v2",
        "key_id": KEY_ID,
        "key_id hash": f"sha256:{hashlib.sha256(KEY_ID.encode()).hexdigest()}",
        "what to do": "nothing",
        "socket": str(path),
        "listener": "none known; the setting listen makes one",
    }


def test_status_that_fails_is_told_with_the_remedy_of_its_cause(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, WAITS):
        code, lines = asked(capsys, "--socket", path)
    assert code == 1
    assert lines["Status"].startswith("not ok: UNAVAILABLE: NOT-READY: degraded, DSM-")
    assert lines["what to do"] == ProviderUnreachable.hint
    assert "key_id" not in lines


def test_start_that_is_not_over_is_told_to_heal_by_itself(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, NotReady("starting, the key is being proven")):
        code, lines = asked(capsys, "--socket", path)
    assert code == 1
    assert lines["what to do"] == NotReady.hint


def test_denied_key_is_told_with_its_remedy(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, KeyDisabled("the key is disabled")):
        answer = asked_json(capsys, "--socket", path)
    assert (answer["exit"], answer["ok"]) == (1, False)
    assert answer["code"] == "KEY-DISABLED"
    assert answer["problem"].startswith("FAILED_PRECONDITION: KEY-DISABLED: ")
    assert answer["what_to_do"] == KeyDisabled.hint


def test_another_plugin_that_is_not_ok_speaks_on_one_line(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, StatusAnswer("v2", "not\n\x1b[31mwell", "k\n1")):
        code, lines = asked(capsys, "--socket", path)
    assert code == 1
    assert lines["Status"].startswith("not ok: healthz is ")
    assert lines["key_id"] == "k 1"
    assert lines["key_id hash"] == key_id_hash("k\n1")
    assert "read its log" in lines["what to do"]


def test_socket_that_nobody_serves_is_told_at_once(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    code, lines = asked(capsys, "--socket", path)
    assert code == 1
    assert lines["Status"] == f"not ok: no daemon serves {path}"
    assert "see that the daemon runs" in lines["what to do"]


@pytest.mark.parametrize(
    ("name", "why"), [("absent", "No such file"), ("x" * 200, "path too long")]
)
def test_path_without_a_socket_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    code, lines = asked(capsys, "--socket", tmp_path / name)
    assert code == 1
    assert why in lines["Status"]


def test_server_that_never_answers_is_given_up(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        code, lines = asked(capsys, "--socket", path, "--timeout-s", "0.2")
    assert code == 1
    assert lines["Status"].startswith("not ok: DEADLINE_EXCEEDED")


def test_server_that_takes_nobody_in_is_given_up(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        socket.socket(socket.AF_UNIX) as stuck,
        socket.socket(socket.AF_UNIX) as in_line,
    ):
        stuck.bind(str(path))
        # Room for one that waits, and one does.
        stuck.listen(0)
        in_line.connect(str(path))
        code, lines = asked(capsys, "--socket", path, "--timeout-s", "0.2")
    assert code == 1
    assert lines["Status"].startswith("not ok: ")


@pytest.mark.parametrize("answer", [OK, WAITS, KeyDisabled("the key is disabled")])
def test_daemon_that_answers_is_alive_whatever_it_says_of_dsm(
    path: Path, capsys: pytest.CaptureFixture[str], answer: StatusAnswer | KmsError
) -> None:
    with served(path, answer):
        code = main(["status", "--alive", "--socket", str(path)])
    assert (code, capsys.readouterr()) == (0, ("", ""))


def test_daemon_that_is_silent_is_not_alive(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["status", "--alive", "--socket", str(path), "--timeout-s", "0.2"]
    assert main(words) == 1
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        assert main(words) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "No such file" in first
    assert "DEADLINE_EXCEEDED" in second


# With a listener.


def test_coasting_is_told_with_its_end(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = dt.datetime.now(dt.UTC).timestamp() - 3700
    more = (
        f"{P}coasting_ends_timestamp_seconds {ENDS.timestamp()}\n"
        f"{P}last_good_look_timestamp_seconds {good}"
    )
    content = metrics("coasting", "DSM-UNREACHABLE", more=more)
    with served(path, OK), page(content) as address:
        code, lines = asked(capsys, "--socket", path, "--listen", address)
        answer = asked_json(capsys, "--socket", path, "--listen", address)
    assert code == 0
    assert lines["Status"] == "ok, version v2"
    assert lines["state"] == "coasting, DSM-UNREACHABLE"
    assert lines["Status fails"].startswith("2100-01-01T00:00:00Z, in ")
    assert lines["last good look"].startswith("1h1m4")
    assert lines["last good look"].endswith("s ago")
    assert lines["local KEKs"] == "3 in memory"
    assert lines["what to do"] == ProviderUnreachable.hint
    assert lines["listener"] == address
    assert answer["state"] == "coasting"
    assert answer["coasting_ends"] == "2100-01-01T00:00:00Z"
    assert answer["local_keks"] == 3
    assert answer["listener_problem"] == ""


def test_key_id_that_was_announced_last_is_shown_by_its_hash(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, WAITS), page(metrics("degraded", "DSM-TIMEOUT")) as address:
        code, lines = asked(capsys, "--socket", path, "--listen", address)
    assert code == 1
    assert lines["state"] == "degraded, DSM-TIMEOUT"
    assert lines["key_id hash"] == f"{key_id_hash(KEY_ID)}, last announced"


def test_listener_of_another_daemon_is_noticed(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, OK), page(metrics("ready", key_id="sdkms.v1:other")) as address:
        code, lines = asked(capsys, "--socket", path, "--listen", address)
    assert code == 0
    assert lines["listener"].startswith(f"{address} shows another key_id")


HOSTILE: Final = {
    "no metrics": b"<html>",
    "nothing": b"",
    "not text": b"\xff\xfe",
    "another exporter's": b"up 1\n",
    "no state": metrics(""),
    "an unknown state": metrics("ready").replace(b"ready", b"\x1b[31m"),
    "two states": metrics("ready") + metrics("denied"),
    "times of no calendar": metrics(
        "ready", more=f"{P}last_good_look_timestamp_seconds 1e300"
    ),
    "no numbers": metrics("ready", more=f"{P}last_good_look_timestamp_seconds NaN"),
    "too much": b"# x\n" * MAX_PAGE_BYTES,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_port_of_another_program_is_noticed_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    with served(path, OK), page(content) as address:
        code, lines = asked(capsys, "--socket", path, "--listen", address)
    assert code == 0
    assert lines["listener"] == f"{address} is no listener of ours"
    assert "state" not in lines


def test_unknown_words_of_a_listener_are_not_shown(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = metrics("ready", "RM-RF").replace(b"sha256:", b"md5:")
    with served(path, OK), page(content) as address:
        _, lines = asked(capsys, "--socket", path, "--listen", address)
    assert lines["state"] == "ready"
    assert lines["what to do"] == "nothing"


def test_listener_that_is_not_there_or_refuses_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, OK):
        with page(b"", 404) as address:
            code, lines = asked(capsys, "--socket", path, "--listen", address)
            assert (code, lines["listener"]) == (
                0,
                f"{address} answers with HTTP status 404",
            )
        code, lines = asked(capsys, "--socket", path, "--listen", address)
        assert (code, lines["listener"]) == (
            0,
            f"{address} does not answer (ConnectError)",
        )
        with socket.create_server(("127.0.0.1", 0)) as mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
            words = ("--socket", path, "--listen", address, "--timeout-s", "0.2")
            code, lines = asked(capsys, *words)
    assert code == 0
    assert lines["listener"] == f"{address} does not answer within 0.2 s"


def test_proxy_of_the_environment_is_not_asked(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with served(path, OK), page(metrics("ready")) as address:
        _, lines = asked(capsys, "--socket", path, "--listen", address)
    assert lines["state"] == "ready"


# Whom to ask.


def test_config_names_socket_and_listener(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(path, OK), page(metrics("ready")) as address:
        config = written(tmp_path, BASE | {"socket_file": str(path), "listen": address})
        code, lines = asked(capsys, "--config", config)
        assert (code, lines["state"], lines["listener"]) == (0, "ready", address)
        # The option goes before the config.
        code, lines = asked(capsys, "-config", config, "--listen", "127.0.0.1:9")
        assert lines["listener"].startswith("127.0.0.1:9 does not answer")


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Return what a `status` says that knows nobody to ask."""
    assert main(["status", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_config_that_can_not_be_read_is_told_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refusal(capsys, "--config", tmp_path / "absent.json")
    assert "can't be read (No such file or directory)" in text
    assert "--socket" in text


def test_config_with_errors_is_told_without_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, BASE | {"listen": "0.0.0.0:9472", "log_level": SECRET})
    text = refusal(capsys, "--config", config)
    assert "error: listen: is no loopback address" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--socket", "rel.sock"], "no absolute path"),
        (["--socket", "@abstract"], "abstract"),
        (["--socket", "/s", "--listen", "localhost:1"], "--listen is not ADDRESS:PORT"),
        (["--socket", "/s", "--listen", "1.2.3.4:1"], "is no loopback address"),
    ],
)
def test_wrong_words_are_told(
    capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert why in refusal(capsys, *words)


def test_config_and_socket_exclude_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--config", "/f", "--socket", "/s"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err

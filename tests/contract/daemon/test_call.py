"""`call`: the small client for people."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.daemon.support import run

from k8s_sdkms_plugin.cli import main


if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.daemon.support import Lab


class Asker:
    """Runs `call` in this process."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def ask(self, *words: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        text = io.TextIOWrapper(io.BytesIO(stdin))
        self._monkeypatch.setattr(sys, "stdin", text)
        code = main(["call", *map(str, words)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def answer(self, *words: str | Path, stdin: bytes = b"") -> dict[str, Any]:
        """Return the answer of a call that must be good."""
        code, out, err = self.ask(*words, stdin=stdin)
        assert (code, err) == (0, "")
        answer: dict[str, Any] = json.loads(out)
        return answer

    def refusal(self, *words: str | Path, stdin: bytes = b"") -> tuple[int, str]:
        """Return exit code and the only line of a call that must fail."""
        code, out, err = self.ask(*words, stdin=stdin)
        assert out == ""
        (line,) = err.splitlines()
        assert line.isprintable()
        return code, line


@pytest.fixture
def asker(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asker:
    return Asker(capsys, monkeypatch)


def test_commands_pass_a_seed_through_and_back(shared: Lab) -> None:
    seed = shared.seed()
    at = ("--socket", shared.socket)
    sealed = run("call", "encrypt", *at, stdin=seed)
    assert sealed.returncode == 0
    assert seed not in sealed.stdout
    opened = run("call", "decrypt", *at, "--reveal", stdin=sealed.stdout)
    assert opened.returncode == 0
    assert base64.b64decode(json.loads(opened.stdout)["plaintext"]) == seed


def test_status_is_shown(shared: Lab, asker: Asker) -> None:
    for path in (str(shared.socket), f"unix://{shared.socket}"):
        assert asker.answer("status", "--socket", path) == {
            "version": "v2",
            "healthz": "ok",
            "key_id": f"sdkms.v1:{shared.demo.key.kid}",
        }


def test_plaintext_is_shown_as_a_digest_unless_asked_for(
    shared: Lab, asker: Asker
) -> None:
    seed = shared.seed()
    at = ("--socket", shared.socket)
    sealed = asker.answer("encrypt", *at, stdin=seed)
    assert set(sealed) == {"key_id", "ciphertext", "uid"}
    stdin = json.dumps(sealed).encode()
    opened = asker.answer("decrypt", *at, stdin=stdin)
    uid = opened.pop("uid")
    assert opened == {"bytes": 32, "sha256": hashlib.sha256(seed).hexdigest()}
    assert shared.daemon.await_line(event="kms call", uid=uid)["method"] == "Decrypt"
    revealed = asker.answer("decrypt", *at, "--reveal", stdin=stdin)
    assert base64.b64decode(revealed["plaintext"]) == seed


def test_random_seed_needs_no_input(shared: Lab, asker: Asker) -> None:
    at = ("--socket", shared.socket)
    sealed = asker.answer("encrypt", *at, "--random")
    opened = asker.answer("decrypt", *at, stdin=json.dumps(sealed).encode())
    assert opened["bytes"] == 32


@pytest.mark.parametrize(
    ("method", "stdin"),
    [
        ("encrypt", b""),
        *[
            ("decrypt", stdin)
            for stdin in (
                *(b"", b"x", b"[]", b"5", b'"text"', b"{}", b"\xff\xff", b"[" * 10**5),
                b'{"key_id": "k"}',
                b'{"key_id": 5, "ciphertext": "eA=="}',
                b'{"key_id": "k", "ciphertext": 5}',
                b'{"key_id": "k", "ciphertext": "*"}',
                b'{"key_id": "k", "ciphertext": "\\u00e9"}',
                b'{"key_id": "\\ud800", "ciphertext": "eA=="}',
            )
        ],
    ],
)
def test_input_that_is_of_no_use_exits_2(
    shared: Lab, asker: Asker, method: str, stdin: bytes
) -> None:
    code, line = asker.refusal(method, "--socket", shared.socket, stdin=stdin)
    assert code == 2
    assert line.startswith("error: ")
    assert "standard input" in line


def test_refusal_of_the_daemon_exits_1_with_its_words(
    shared: Lab, asker: Asker
) -> None:
    at = ("--socket", shared.socket)
    stored = b'{"key_id": "sdkms.v1:k", "ciphertext": "eA=="}'
    code, line = asker.refusal("decrypt", *at, stdin=stored)
    assert code == 1
    assert line.startswith("INVALID_ARGUMENT: SEALED-SEED-MALFORMED: ")
    code, line = asker.refusal("encrypt", *at, stdin=b"x" * 513)
    assert (code, line.split(":")[1]) == (1, " SEED-SIZE")


@pytest.mark.parametrize("path", ["@abstract", "relative.sock", "unix:relative.sock"])
def test_path_that_can_be_no_socket_exits_2(asker: Asker, path: str) -> None:
    code, line = asker.refusal("status", "--socket", path)
    assert (code, line[:7]) == (2, "error: ")


def test_path_without_a_socket_exits_1_at_once(asker: Asker, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        code, line = asker.refusal("status", "--socket", path)
        assert code == 1
        assert str(path) in line


def test_socket_that_nobody_serves_fails_at_the_deadline(
    asker: Asker, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
    code, line = asker.refusal("status", "--socket", path, "--timeout-s", "0.2")
    assert (code, line.split(":")[0]) == (1, "DEADLINE_EXCEEDED")

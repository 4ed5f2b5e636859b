"""``verify`` as a person runs it: against an etcd's API, a snapshot, and a plugin."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from attrs import define, field, frozen
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.unit.k8s_sdkms_plugin.verify.support import (
    DIRECT,
    ENVELOPED,
    GO_PLUGIN,
    HASH,
    KEY,
    KEY_ID,
    KID,
    PLAINTEXT,
    Written,
    bolt_file,
    encrypted,
    value,
)

from adapters_grpc.messages import DECRYPT_METHOD, DecryptRequest, DecryptResponse
from k8s_sdkms_plugin.verify import command, etcd, report
from k8s_sdkms_plugin.verify.messages import RANGE_METHOD, RangeRequest, RangeResponse
from k8s_sdkms_plugin.verify.target import Target


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEED = b"s" * 32
PREFIX = "/registry/secrets/"


class Server:
    """A gRPC server of one method."""

    def __init__(self, method: str, answer: Callable[[bytes], bytes]) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._threads = ThreadPoolExecutor(4)
        self._server = grpc.server(self._threads)
        service, _, name = method.strip("/").rpartition("/")
        handler: grpc.RpcMethodHandler[bytes, bytes]
        handler = grpc.unary_unary_rpc_method_handler(self._called)
        generic = grpc.method_handlers_generic_handler(service, {name: handler})
        self._server.add_generic_rpc_handlers([generic])

    def start(self, address: str, tls: grpc.ServerCredentials | None = None) -> int:
        if tls is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, tls)
        self._server.start()
        return port

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._threads.shutdown()

    def _called(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(raw)
        try:
            return self._answer(raw)
        except Refusal as refusal:
            context.abort(refusal.code, refusal.text)
            raise


@frozen
class Refusal(Exception):
    code: grpc.StatusCode
    text: str


@define
class Store:
    """What an etcd answers to Range: sorted, limited, of the revision asked for."""

    content: dict[bytes, bytes]
    revision: int = 7
    forgets_at: int = 0
    asked: list[FullRequest] = field(factory=list)

    def answer(self, raw: bytes) -> bytes:
        request = FullRequest.of(raw)
        self.asked.append(request)
        self.forgets_at -= 1
        if request.revision and self.forgets_at == 0:
            raise Refusal(grpc.StatusCode.OUT_OF_RANGE, "compacted")
        keys = sorted(
            key
            for key in self.content
            if key == request.key or request.key <= key < request.range_end
        )
        page = keys[: request.limit or None]
        answer = RangeResponse()
        answer.header.revision = self.revision
        answer.more = len(page) < len(keys)
        for key in page:
            answer.kvs.add(key=key, value=self.content[key])  # type: ignore[attr-defined]
        return answer.SerializeToString()


@frozen
class FullRequest:
    key: bytes
    range_end: bytes
    limit: int
    revision: int

    @classmethod
    def of(cls, raw: bytes) -> FullRequest:
        found: Any = RangeRequest.FromString(raw)
        return cls(found.key, found.range_end, found.limit, found.revision)


@pytest.fixture
def store() -> Store:
    return Store({KEY: value()})


@pytest.fixture
def server(store: Store) -> Iterator[str]:
    server = Server(RANGE_METHOD, store.answer)
    port = server.start("127.0.0.1:0")
    yield f"http://127.0.0.1:{port}"
    server.stop()


@frozen
class Plugin:
    """A KMS v2 plugin whose Decrypt knows some sealed seeds."""

    socket: Path
    seeds: dict[bytes, bytes]
    asked: list[bytes]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    seeds = {DIRECT: SEED, ENVELOPED: SEED}

    def answer(raw: bytes) -> bytes:
        request = DecryptRequest.FromString(raw)
        if request.ciphertext not in seeds:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "not\nmine")
        return DecryptResponse(plaintext=seeds[request.ciphertext]).SerializeToString()

    server = Server(DECRYPT_METHOD, answer)
    socket = tmp_path / "kms.sock"
    server.start(f"unix:{socket}")
    yield Plugin(socket, seeds, server.asked)
    server.stop()


@frozen
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Verify:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Run:
        code = command.main([str(word) for word in words])
        said = self._capsys.readouterr()
        for part in (said.out, said.err):
            assert "do not print me" not in part
        return Run(code, said.out, said.err)


@pytest.fixture
def verify(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Verify:
    # It would end the core dumps of the tests' own process.
    monkeypatch.setattr(command, "harden_process", lambda: None)
    return Verify(capsys)


def test_encrypted_objects_are_well(verify: Verify, server: str, store: Store) -> None:
    store.content[KEY + b"2"] = value(ENVELOPED)

    done = verify("--endpoints", server)

    assert (done.code, done.err) == (0, "")
    one, two, *_ = done.out.splitlines()
    assert one == (
        f"ok      /registry/secrets/default/example: encrypted by kms v2 dsm; "
        f"key_id {KEY_ID}; format 2, DSM key {KID}"
    )
    assert "format 3" in two
    assert done.out.splitlines()[-1] == "  2 objects, well"


def test_each_kind_of_object_is_counted_and_findings_are_told(
    verify: Verify, server: str, store: Store
) -> None:
    store.content |= {
        b"/registry/secrets/a/plain": b"k8s\0" + PLAINTEXT,
        b"/registry/secrets/a/aescbc": b"k8s:enc:aescbc:v1:key1:" + b"\xff" * 32,
        b"/registry/secrets/a/v1": b"k8s:enc:kms:v1:dsm:data",
        b"/registry/secrets/a/theirs": value(b"vault:v1", "theirs"),
        b"/registry/secrets/a/odd\n\xff": value(b"broken", KEY_ID),
    }

    done = verify("--endpoints", server, "--quiet")

    assert done.code == 1
    for line in (
        "finding /registry/secrets/a/plain: not encrypted; kms was expected",
        "encrypted by aescbc v1 key1; kms was expected",
        "KMS v1, which is not served",
        "sealed by another plugin",
        "/registry/secrets/a/odd?\\xff: ",
        "its sealed seed is none",
        "6 objects, 5 with findings",
    ):
        assert line in done.out
    assert "default/example" not in done.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 0),
        (("--expect-provider", "kms:dsm"), 0),
        (("--expect-provider", "kms:other"), 1),
        (("--expect-provider", "aescbc"), 1),
        (("--expect-key-id", KEY_ID), 0),
        (("--expect-key-id", KEY_ID, "--expect-key-id", HASH), 0),
        (("--expect-key-id", HASH), 1),
        (("--expect-format", "native"), 0),
        (("--expect-format", "go-plugin"), 1),
        (("default/example",), 0),
        (("default/none",), 1),
        (("/registry/secrets/def",), 0),
        (("/registry/pods/",), 1),
        (("--expect-provider", "rot13"), 2),
        (("example",), 2),
        (("--etcd-prefix", "/other"), 1),
    ],
)
def test_exit_code_says_whether_all_is_as_expected(
    words: tuple[str, ...], code: int, verify: Verify, server: str
) -> None:
    assert verify("--endpoints", server, *words).code == code


def test_go_plugins_objects_are_not_native(
    verify: Verify, server: str, store: Store
) -> None:
    store.content[KEY] = value(GO_PLUGIN, HASH)
    assert verify("--endpoints", server, "--expect-format", "go-plugin").code == 0
    assert verify("--endpoints", server, "--expect-format", "native").code == 1


def test_what_is_expected_to_be_plain_is_well_when_it_is(
    verify: Verify, server: str, store: Store
) -> None:
    words = ("--endpoints", server, "--expect-provider", "identity")
    assert verify(*words).code == 1
    store.content = {KEY: PLAINTEXT}
    assert verify(*words).code == 0


def test_misspelt_prefix_does_not_pass_for_well(verify: Verify, server: str) -> None:
    done = verify("/registy/", "--endpoints", server, "--json")
    assert done.code == 1
    assert "nothing is stored there" in done.err
    assert done.json["problem"] == "nothing is stored there"


def test_json_has_objects_and_a_summary_by_key_id(
    verify: Verify, server: str, store: Store, plugin: Plugin
) -> None:
    store.content = {
        KEY: value(ENVELOPED, data=encrypted(SEED)),
        KEY + b"2": value(ENVELOPED, data=encrypted(SEED, KEY + b"2")),
        KEY + b"3": value(GO_PLUGIN, HASH),
    }

    done = verify("--endpoints", server, "--json", "--open", "--socket", plugin.socket)

    assert done.code == 1
    old, new = done.json["summary"]
    assert (old["key_id"], old["format"], old["with_findings"]) == (HASH, "1", 1)
    assert new == {
        "provider": "encrypted by kms v2 dsm",
        "key_id": KEY_ID,
        "format": "3",
        "dsm_key": KID,
        "objects": 2,
        "opened": 2,
        "with_findings": 0,
        "seeds": 1,
        "local_keks": 1,
    }
    first, _, last = done.json["objects"]
    assert (first["opens"], last["opens"]) == (True, False)
    assert last["findings"] == ["the plugin refuses: INVALID_ARGUMENT: not mine"]
    # One question for each seed, however many objects it has.
    assert len(plugin.asked) == 2


def test_object_of_kubernetes_1_27_opens_by_its_own_key(
    verify: Verify, server: str, store: Store, plugin: Plugin
) -> None:
    nonce = os.urandom(12)
    data = nonce + AESGCM(SEED).encrypt(nonce, PLAINTEXT, KEY)
    store.content = {KEY: value(data=data, source=0)}
    words = ("--endpoints", server, "--open", "--socket", plugin.socket)
    done = verify(*words)
    assert (done.code, done.out.splitlines()[0].endswith("; opens")) == (0, True)


@pytest.mark.parametrize(
    ("seed", "data", "source", "says"),
    [
        (SEED, encrypted(SEED, KEY + b"x"), 1, "stands under another key"),
        (SEED, encrypted(b"t" * 32), 1, "stands under another key"),
        (b"short", encrypted(SEED), 1, "seed of 5 bytes"),
        (b"short", encrypted(SEED), 0, "seed of 5 bytes"),
        (SEED, b"tiny", 1, "too short"),
    ],
)
def test_object_that_does_not_open_is_a_finding(
    *,
    seed: bytes,
    data: bytes,
    source: int,
    says: str,
    verify: Verify,
    server: str,
    store: Store,
    plugin: Plugin,
) -> None:
    plugin.seeds[DIRECT] = seed
    store.content = {KEY: value(data=data, source=source)}
    done = verify("--endpoints", server, "--open", "--socket", plugin.socket)
    assert done.code == 1
    assert says in done.out


def test_what_is_not_of_kms_is_not_tried(
    verify: Verify, server: str, store: Store, plugin: Plugin
) -> None:
    store.content = {KEY: PLAINTEXT}
    words = ("--endpoints", server, "--expect-provider", "identity")
    assert verify(*words, "--open", "--socket", plugin.socket).code == 0
    assert plugin.asked == []


def test_snapshot_is_read_like_an_etcd(
    verify: Verify, tmp_path: Path, plugin: Plugin
) -> None:
    path = tmp_path / "snapshot.db"
    history = [Written(KEY, PLAINTEXT), Written(KEY, value(data=encrypted(SEED)))]
    path.write_bytes(bolt_file(history, hashed=True))
    done = verify("--snapshot", path, "--open", "--socket", plugin.socket)
    assert (done.code, done.err) == (0, "")
    assert "1 object; encrypted by kms v2 dsm" in done.out
    path.write_bytes(b"none")
    assert verify("--snapshot", path).code == 2


def test_socket_is_that_of_the_config(
    verify: Verify, server: str, store: Store, plugin: Plugin, tmp_path: Path
) -> None:
    store.content = {KEY: value(data=encrypted(SEED))}
    config = tmp_path / "config.json"
    settings = {
        "sdkms_endpoint": "https://dsm.example.com",
        "api_key": "abc",
        "key_name": "k",
        "socket_file": str(plugin.socket),
        "write_format": "native",
    }
    config.write_text(json.dumps(settings))
    assert verify("--endpoints", server, "--open", "--config", config).code == 0
    assert verify("--endpoints", server, "--open", "--config", tmp_path / "x").code == 2


def test_socket_that_nobody_serves_is_told_before_the_first_object(
    verify: Verify, server: str, store: Store, tmp_path: Path
) -> None:
    store.content = {KEY: value(data=encrypted(SEED))}
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))
    done = verify("--endpoints", server, "--open", "--socket", tmp_path / "s")
    assert done.code == 2
    assert "no daemon serves" in done.err
    assert not store.asked


@pytest.mark.parametrize(
    "words",
    [
        ("--endpoints", "http://"),
        ("--endpoints", "ftp://h:1"),
        ("--endpoints", "http://127.0.0.1:1"),
        ("--endpoints", "https://127.0.0.1:1"),
        ("--endpoints", "unix:///nowhere.sock"),
        ("--cacert", "/nowhere"),
        ("--cert", "/nowhere", "--key", "/nowhere"),
        ("--snapshot", "/nowhere"),
        ("--open", "--socket", "/nowhere"),
        ("--open", "--socket", "@abstract"),
    ],
)
def test_look_that_fails_is_told_in_a_line(
    words: tuple[str, ...], verify: Verify
) -> None:
    done = verify(*words)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


def test_next_endpoint_is_asked_if_the_first_is_away(
    verify: Verify, server: str
) -> None:
    done = verify("--endpoints", f"http://127.0.0.1:1,{server}")
    assert done.code == 0
    assert "trying the next" in done.err


def test_all_pages_are_read_of_one_revision(store: Store, server: str) -> None:
    store.content = {f"{PREFIX}{i:03}".encode(): value() for i in range(7)}
    asked = _ask_pages(store, server)
    assert [each.revision for each in asked] == [0, 7, 7, 7]
    assert [each.limit for each in asked] == [2, 2, 2, 2]


def test_revision_that_etcd_has_forgotten_is_given_up(
    store: Store, server: str
) -> None:
    store.content = {f"{PREFIX}{i:03}".encode(): value() for i in range(7)}
    store.forgets_at = 3
    asked = _ask_pages(store, server)
    assert [each.revision for each in asked] == [0, 7, 7, 0, 7]


def _ask_pages(store: Store, server: str) -> list[FullRequest]:
    async def look() -> list[bytes]:
        async with etcd.Etcd(etcd.Endpoint.parse(server), None) as opened:
            target = Target(PREFIX.encode(), exact=False)
            return [key async for key, _ in opened.objects(target, page_objects=2)]

    assert asyncio.run(look()) == sorted(store.content)
    return store.asked


@pytest.mark.parametrize("login", [False, True])
def test_etcd_is_reached_by_tls(*, login: bool, verify: Verify, tmp_path: Path) -> None:
    authority = trustme.CA()
    cert = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("client@example.com")
    pem = b"".join(each.bytes() for each in cert.cert_chain_pems)
    tls = grpc.ssl_server_credentials(
        [(cert.private_key_pem.bytes(), pem)],
        authority.cert_pem.bytes() if login else None,
        require_client_auth=login,
    )
    server = Server(RANGE_METHOD, Store({KEY: value()}).answer)
    port = server.start("127.0.0.1:0", tls)
    try:
        ca, crt, key = (tmp_path / name for name in ("ca", "crt", "key"))
        authority.cert_pem.write_to_path(str(ca))
        client.private_key_pem.write_to_path(str(key))
        client.cert_chain_pems[0].write_to_path(str(crt))
        at = ("--endpoints", f"https://127.0.0.1:{port}")
        assert verify(*at, "--cacert", ca, "--cert", crt, "--key", key).code == 0
        assert verify(*at, "--cacert", ca).code == (2 if login else 0)
        assert verify(*at).code == 2
        assert verify(*at, "--cacert", ca, "--cert", crt).code == 2
    finally:
        server.stop()


def test_answer_that_is_none_is_refused(verify: Verify) -> None:
    server = Server(RANGE_METHOD, lambda _: b"\xff\xff")
    port = server.start("127.0.0.1:0")
    try:
        done = verify("--endpoints", f"127.0.0.1:{port}")
    finally:
        server.stop()
    assert done.code == 2
    assert "none of etcd's" in done.err


def test_etcd_that_goes_in_circles_is_left(verify: Verify) -> None:
    answer = RangeResponse(more=True)
    answer.kvs.add(key=KEY, value=value())  # type: ignore[attr-defined]
    server = Server(RANGE_METHOD, lambda _: answer.SerializeToString())
    port = server.start("127.0.0.1:0")
    try:
        done = verify("--endpoints", f"127.0.0.1:{port}")
    finally:
        server.stop()
    assert done.code == 2
    assert "in circles" in done.err
    assert "well" not in done.out


def test_page_that_is_empty_and_not_the_last_is_not_the_end(
    verify: Verify,
) -> None:
    begun, empty = RangeResponse(more=True), RangeResponse(more=True)
    begun.kvs.add(key=KEY, value=value())  # type: ignore[attr-defined]
    answers = iter([begun.SerializeToString(), empty.SerializeToString()])
    server = Server(RANGE_METHOD, lambda _: next(answers))
    port = server.start("127.0.0.1:0")
    try:
        done = verify("--endpoints", f"127.0.0.1:{port}")
    finally:
        server.stop()
    assert done.code == 2
    assert "in circles" in done.err


def test_large_prefix_gives_signs_of_life(
    verify: Verify, server: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.content = {f"{PREFIX}{i:03}".encode(): value() for i in range(10)}
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(
        command,
        "Report",
        lambda _, **kinds: report.Report(lambda: float(next(times)), **kinds),
    )
    done = verify("--endpoints", server, "--quiet")
    assert done.err.count("looked at") > 1


@pytest.mark.parametrize(
    ("text", "target", "secure"),
    [
        ("127.0.0.1:2379", "127.0.0.1:2379", False),
        ("https://etcd.example", "etcd.example:2379", True),
        ("https://[::1]:99", "[::1]:99", True),
        ("unix:///run/etcd.sock", "unix:///run/etcd.sock", False),
    ],
)
def test_endpoints_are_spelt_as_etcdctl_has_them(
    *, text: str, target: str, secure: bool
) -> None:
    assert etcd.Endpoint.parse(text) == etcd.Endpoint(target, secure)


def test_end_of_a_prefix_is_the_next_one() -> None:
    assert Target(b"/a/", exact=False).end == b"/a0"
    assert Target(b"/a\xff", exact=False).end == b"/b"
    assert Target(b"/a", exact=True).end == b""

"""The command line of ``verify``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters_grpc.client import KmsClient
from adapters_grpc.unix_socket import SocketRefused, socket_path
from k8s_sdkms_plugin.config import DEFAULT_PATH
from k8s_sdkms_plugin.config.loading import load
from k8s_sdkms_plugin.hardening import harden_process
from k8s_sdkms_plugin.status import no_server
from k8s_sdkms_plugin.verify.etcd import Endpoint, Etcd, read_tls
from k8s_sdkms_plugin.verify.findings import Expectation, Format, findings_of
from k8s_sdkms_plugin.verify.opening import Opener
from k8s_sdkms_plugin.verify.report import Looked, Report
from k8s_sdkms_plugin.verify.snapshot import objects_of
from k8s_sdkms_plugin.verify.stored import take_apart
from k8s_sdkms_plugin.verify.target import LookFailed, Target
from k8s_sdkms_plugin.version import NAME


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from k8s_sdkms_plugin.verify.etcd import Tls
    from k8s_sdkms_plugin.verify.stored import StoredObject


EXIT_AS_EXPECTED: Final = 0
EXIT_FINDINGS: Final = 1
EXIT_NOT_LOOKED: Final = 2

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:2379"
DEFAULT_PREFIX: Final = "/registry"

_AT_ONCE: Final = 64
"""Objects whose opening is waited for together."""

_PROVIDERS: Final = ("kms", "aescbc", "aesgcm", "secretbox", "identity")


def main(argv: Sequence[str]) -> int:
    """Run ``verify``.

    Returns:
        0 if every object is as expected, 1 if one is not or there is none at all, 2
        if the command line is wrong or not everything could be looked at.
    """
    arguments = _parser().parse_args(argv)
    # Seeds come by, and objects that are not encrypted.
    harden_process()
    report = Report(time.monotonic, as_json=arguments.json, quiet=arguments.quiet)
    try:
        asyncio.run(_look(arguments, report))
    except LookFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        report.end(EXIT_NOT_LOOKED, str(failure))
        return EXIT_NOT_LOOKED
    code = EXIT_FINDINGS if report.with_findings else EXIT_AS_EXPECTED
    problem = ""
    if not report.looked_at:
        # A prefix that is misspelt must not pass for a cluster that is well.
        code, problem = EXIT_FINDINGS, "nothing is stored there"
        print(f"error: {problem}", file=sys.stderr)
    report.end(code, problem)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{NAME} verify",
        description="Say of each stored object whether it is encrypted, and by which "
        "key. No plaintext is printed.",
        epilog="Exit codes: 0 all as expected, 1 something is not, 2 not everything "
        "could be looked at.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        nargs="?",
        help="a Secret as NAMESPACE/NAME, or a prefix in etcd (ETCD-PREFIX/secrets/)",
    )
    parser.add_argument(
        "--snapshot", type=Path, help="an etcd snapshot, instead of a live etcd"
    )
    parser.add_argument(
        "--endpoints",
        default=DEFAULT_ENDPOINT,
        help="of etcd, separated by commas; the first that answers (%(default)s)",
    )
    for option, what in (
        ("--cacert", "who may vouch for etcd"),
        ("--cert", "our certificate"),
        ("--key", "its key"),
    ):
        parser.add_argument(option, type=Path, help=f"{what}, a PEM file")
    parser.add_argument(
        "--etcd-prefix", default=DEFAULT_PREFIX, help="kube-apiserver's (%(default)s)"
    )
    parser.add_argument(
        "--open", action="store_true", help="try whether the plugin opens each object"
    )
    parser.add_argument("--socket", help="of the plugin; default: as its config says")
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_PATH, help="(%(default)s)"
    )
    parser.add_argument(
        "--expect-provider",
        default="kms",
        metavar="KIND[:NAME]",
        help=f"{', '.join(_PROVIDERS)} (%(default)s)",
    )
    parser.add_argument(
        "--expect-key-id",
        action="append",
        default=[],
        metavar="KEY_ID",
        help="no other may be found; may be repeated",
    )
    parser.add_argument(
        "--expect-format",
        choices=[each.value for each in Format],
        help="go-plugin before a way back to the Go plugin; native before old hashes "
        "are given up",
    )
    parser.add_argument("--quiet", action="store_true", help="findings and summary")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _look(arguments: argparse.Namespace, report: Report) -> None:
    expected = _expectation(arguments)
    target = _target(arguments)
    async with contextlib.AsyncExitStack() as stack:
        opener: Opener | None = None
        if arguments.open:
            client = KmsClient(_socket(arguments), timeout_s=10.0)
            opener = Opener(await stack.enter_async_context(client))
        waiting: list[StoredObject] = []
        async for key, value in _objects(arguments, target):
            waiting.append(take_apart(key, value))
            if len(waiting) == _AT_ONCE:
                await _judge(waiting, opener, expected, report)
                waiting.clear()
        await _judge(waiting, opener, expected, report)


async def _judge(
    stored: list[StoredObject],
    opener: Opener | None,
    expected: Expectation,
    report: Report,
) -> None:
    problems = await asyncio.gather(*(_unopened(each, opener) for each in stored))
    for each, problem in zip(stored, problems, strict=True):
        opens = None if problem is None else not problem
        found = findings_of(each, expected, problem or "")
        report.add(Looked(each, found, opens))


async def _unopened(stored: StoredObject, opener: Opener | None) -> str | None:
    """Return why it does not open; None if that was not tried."""
    if opener is None or stored.sealed is None:
        return None
    return await opener.problem(stored.key, stored.sealed)


async def _objects(
    arguments: argparse.Namespace, target: Target
) -> AsyncIterator[tuple[bytes, bytes]]:
    if arguments.snapshot is not None:
        for item in objects_of(arguments.snapshot, target):
            yield item
        return
    endpoints = _endpoints(arguments.endpoints)
    tls = read_tls(arguments.cacert, arguments.cert, arguments.key)
    for position, endpoint in enumerate(endpoints, 1):
        begun = False
        try:
            async for item in _from_etcd(endpoint, tls, target):
                begun = True
                yield item
        except LookFailed as failure:
            if begun or position == len(endpoints):
                raise
            print(f"warning: {failure}; trying the next", file=sys.stderr)
            continue
        return


async def _from_etcd(
    endpoint: Endpoint, tls: Tls | None, target: Target
) -> AsyncIterator[tuple[bytes, bytes]]:
    if endpoint.secure and tls is None:
        raise LookFailed(
            "an https endpoint needs --cacert, and mostly --cert and --key"
        )
    async with Etcd(endpoint, tls) as etcd:
        async for item in etcd.objects(target):
            yield item


def _endpoints(text: str) -> list[Endpoint]:
    try:
        return [Endpoint.parse(part.strip()) for part in text.split(",")]
    except ValueError as problem:
        raise LookFailed(f"--endpoints: {problem}") from None


def _target(arguments: argparse.Namespace) -> Target:
    prefix = arguments.etcd_prefix.rstrip("/")
    try:
        return Target.parse(arguments.target or f"{prefix}/secrets/", prefix)
    except ValueError as problem:
        raise LookFailed(str(problem)) from None


def _expectation(arguments: argparse.Namespace) -> Expectation:
    kind, _, name = arguments.expect_provider.partition(":")
    if kind not in _PROVIDERS:
        raise LookFailed(f"--expect-provider: name one of {', '.join(_PROVIDERS)}")
    chosen = arguments.expect_format
    return Expectation(
        provider=kind,
        provider_name=name,
        key_ids=frozenset(arguments.expect_key_id),
        format=None if chosen is None else Format(chosen),
    )


def _socket(arguments: argparse.Namespace) -> Path:
    text = arguments.socket
    if text is None:
        loaded = load(arguments.config, {})
        if loaded.config is None:
            raise LookFailed("--open: name the plugin's socket with --socket")
        text = loaded.config.socket_file
    try:
        path = socket_path(text)
    except SocketRefused as refusal:
        raise LookFailed(refusal.text) from None
    problem = no_server(path)
    if problem:
        # gRPC would wait for it, seed by seed.
        raise LookFailed(f"--open: {problem}")
    return path

"""The command line of ``render``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import frozen

from k8s_sdkms_plugin.config import DEFAULT_PATH
from k8s_sdkms_plugin.config.findings import warning
from k8s_sdkms_plugin.hardening import harden_process
from k8s_sdkms_plugin.render import kube_apiserver
from k8s_sdkms_plugin.render.encryption import (
    DEFAULT_NAME,
    DEFAULT_RESOURCES,
    KEYED_KINDS,
    EncryptionConfiguration,
    fresh,
    has_secrets,
    kms_of,
    to_yaml,
)
from k8s_sdkms_plugin.render.output import write_out
from k8s_sdkms_plugin.render.refusal import RenderRefused
from k8s_sdkms_plugin.render.settings import (
    API_KEY_TO_COME,
    Settings,
    as_json,
    settings_of,
)
from k8s_sdkms_plugin.render.site import ROOT_USER, Site, plain_path, site_of
from k8s_sdkms_plugin.render.static_pod import static_pod
from k8s_sdkms_plugin.render.systemd import unit
from k8s_sdkms_plugin.version import NAME, version


if TYPE_CHECKING:
    from collections.abc import Sequence


EXIT_DONE: Final = 0
EXIT_USAGE: Final = 2

DEFAULT_PROGRAM: Final = Path("/opt", NAME, "bin", NAME)


@frozen
class Rendered:
    """A file, and whether it holds keys or a credential."""

    text: str
    secret: bool = False


Making: TypeAlias = Callable[[argparse.Namespace, Settings], Rendered]


def main(argv: Sequence[str]) -> int:
    """Run ``render`` and return the exit code: 0 done, 2 refused."""
    arguments = _parser().parse_args(argv)
    # Configs hold an API key, encryption configs hold keys.
    harden_process()
    make: Making = arguments.make
    try:
        rendered = make(arguments, _settings(arguments))
        write_out(rendered.text, arguments.output, secret=rendered.secret)
    except RenderRefused as refusal:
        for problem in refusal.problems:
            print(problem, file=sys.stderr)
        return EXIT_USAGE
    return EXIT_DONE


def _settings(arguments: argparse.Namespace) -> Settings:
    if arguments.config and arguments.set and arguments.make is not _config:
        raise RenderRefused(
            "error: --set: every file must follow --config; change that one first, "
            "with render config"
        )
    api_key_file = getattr(arguments, "api_key_file", None)
    return settings_of(arguments.config, arguments.set, api_key_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{NAME} render",
        description="Print a file that a node needs, made from the plugin's settings.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(metavar="FILE", required=True)

    config = _kind(kinds, "config", "the plugin's config", _config)
    config.add_argument(
        "--api-key-file",
        type=Path,
        metavar="KEY",
        help="copy the API key out of this file into the config, as api_key, now; for "
        "one that stays in a file, which the daemon reads, --set api_key_file=PATH",
    )

    pod = _kind(kinds, "static-pod", "the static pod", _static_pod)
    pod.add_argument("--image", default=f"{NAME}:{version()}", help="(%(default)s)")
    pod.add_argument("--pull", action="store_true", help="let the kubelet fetch it")
    pod.add_argument(
        "--non-root", action="store_true", help="run as a user that owns the folders"
    )

    systemd = _kind(kinds, "systemd", "the systemd unit", _systemd)
    systemd.add_argument(
        "--program", type=Path, default=DEFAULT_PROGRAM, help="(%(default)s)"
    )
    systemd.add_argument("--user", default=ROOT_USER, help="(%(default)s)")

    encryption = _kind(
        kinds, "encryption-config", "kube-apiserver's EncryptionConfiguration", _encrypt
    )
    _add_encryption(encryption)
    patch = _kind(
        kinds, "kubeadm-patch", "the patch of kubeadm's kube-apiserver", _kubeadm
    )
    _add_file(patch, kube_apiserver.KUBEADM_FILE)
    k3s = _kind(kinds, "k3s", "a file for k3s' config.yaml.d", _k3s)
    _add_file(k3s, kube_apiserver.K3S_FILE)
    rke2 = _kind(kinds, "rke2", "a file for RKE2's config.yaml.d", _rke2)
    _add_file(rke2, kube_apiserver.RKE2_FILE)
    rke1 = _kind(kinds, "rke1", "a part of RKE1's cluster.yml", _rke1)
    _add_encryption(rke1)
    return parser


def _kind(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    make: Making,
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=what, description=what, allow_abbrev=False)
    parser.add_argument(
        "--config", type=Path, help="take the settings from this config of the plugin"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, as its environment variable would have it; an empty VALUE "
        "takes it away",
    )
    parser.add_argument(
        "--installed-as",
        type=Path,
        default=DEFAULT_PATH,
        help="where the config will be on the node (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help="write it there, whole or not")
    parser.set_defaults(make=make)
    return parser


def _add_encryption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--merge", type=Path, metavar="CURRENT", help="keep all that is in this one"
    )
    parser.add_argument(
        "--back-to",
        metavar="PROVIDER",
        help="with --merge, the way back: this provider first, ours for reading; "
        f"identity, {', '.join(KEYED_KINDS)} or kms:NAME",
    )
    parser.add_argument(
        "--name",
        help=f"the provider's name, for ever ({DEFAULT_NAME}, or as in CURRENT)",
    )
    parser.add_argument(
        "--resource",
        action="append",
        metavar="NAME.GROUP",
        help="what to encrypt; may be repeated (secrets)",
    )


def _add_file(parser: argparse.ArgumentParser, default: Path) -> None:
    parser.add_argument(
        "--file",
        type=Path,
        default=default,
        help="where the encryption configuration is (%(default)s)",
    )


def _config(_arguments: argparse.Namespace, settings: Settings) -> Rendered:
    for finding in settings.warnings:
        print(finding, file=sys.stderr)
    pairs = dict(settings.pairs)
    if API_KEY_TO_COME in pairs.values():
        print(
            f"note: put the app's API key in place of {API_KEY_TO_COME}, or have it "
            "copied there with --api-key-file KEY, or name the file in which it stays "
            "with --set api_key_file=PATH",
            file=sys.stderr,
        )
    return Rendered(as_json(pairs) + "\n", secret=True)


def _static_pod(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    pod = static_pod(
        _site(arguments, settings),
        arguments.image,
        pull=arguments.pull,
        as_root=not arguments.non_root,
    )
    return Rendered(pod)


def _systemd(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    program = plain_path("--program", arguments.program)
    return Rendered(unit(_site(arguments, settings), program, arguments.user))


def _encrypt(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    configuration = _configuration(arguments, _site(arguments, settings))
    return Rendered(to_yaml(configuration), secret=has_secrets(configuration))


def _kubeadm(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    file = plain_path("--file", arguments.file)
    return Rendered(kube_apiserver.kubeadm_patch(_site(arguments, settings), file))


def _k3s(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    _site(arguments, settings)
    return Rendered(kube_apiserver.k3s(plain_path("--file", arguments.file)))


def _rke2(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    file = plain_path("--file", arguments.file)
    return Rendered(kube_apiserver.rke2(_site(arguments, settings), file))


def _rke1(arguments: argparse.Namespace, settings: Settings) -> Rendered:
    site = _site(arguments, settings)
    configuration = _configuration(arguments, site)
    text = kube_apiserver.rke1(site, configuration)
    return Rendered(text, secret=has_secrets(configuration))


def _configuration(
    arguments: argparse.Namespace, site: Site
) -> EncryptionConfiguration:
    resources = tuple(arguments.resource or DEFAULT_RESOURCES)
    if arguments.merge is None:
        if arguments.back_to is not None:
            raise RenderRefused("error: --back-to: needs --merge CURRENT")
        return fresh(kms_of(arguments.name or DEFAULT_NAME, site.endpoint), resources)
    # What reads YAML alone needs PyYAML.
    from k8s_sdkms_plugin.render.merge import (  # noqa: PLC0415
        left_to_earlier_rules,
        merged,
        way_back,
    )
    from k8s_sdkms_plugin.render.reading import read_configuration  # noqa: PLC0415

    current = read_configuration(arguments.merge)
    if arguments.back_to is not None:
        return way_back(current, site.endpoint, arguments.back_to)
    made = merged(current, site.endpoint, arguments.name, resources)
    left = left_to_earlier_rules(made, site.endpoint, resources)
    if left:
        what = f"earlier rules decide on {', '.join(map(ascii, left))}"
        remedy = "name with --resource as well what of it is to be encrypted by DSM"
        print(warning("--resource", what, remedy), file=sys.stderr)
    return made


def _site(arguments: argparse.Namespace, settings: Settings) -> Site:
    return site_of(settings.config, arguments.installed_as)

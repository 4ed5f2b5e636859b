"""The calls about the service itself; only client_configs needs a login (section 6)."""

from collections.abc import Mapping
from typing import Any

from dsm_emulator.dsm import API_VERSION, VERSION, Dsm
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import NO_CONTENT, Call, caller
from dsm_emulator.wire import encode_base64


def _health(dsm: Dsm, _: Request) -> Answer:
    return NO_CONTENT if dsm.healthy else Answer(503, text="Service unavailable")


def _version(dsm: Dsm, _: Request) -> Answer:
    return Answer(200, json=_about(dsm))


def _info(dsm: Dsm, _: Request) -> Answer:
    return Answer(200, json=_about(dsm) | {"external_entropy": None})


def _about(dsm: Dsm) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "version": VERSION,
        "api_version": API_VERSION,
        "server_mode": dsm.rules.server_mode,
    }
    if dsm.rules.fips_level is not None:
        shown["fips_level"] = dsm.rules.fips_level
    return shown


def _tls_public_keys(dsm: Dsm, _: Request) -> Answer:
    shown = [
        {"spki": encode_base64(key), "is_active": True}
        for key in dsm.tls_public_keys_der
    ]
    return Answer(200, json=shown)


def _client_configs(dsm: Dsm, request: Request) -> Answer:
    caller(dsm, request)
    common = {}
    if dsm.rules.client_retry_timeout_ms is not None:
        common["retry_timeout_millis"] = dsm.rules.client_retry_timeout_ms
    return Answer(200, json={"common": common})


CALLS: Mapping[tuple[str, str], Call] = {
    ("GET", "/sys/v1/health"): _health,
    ("GET", "/sys/v1/version"): _version,
    ("GET", "/sys/v1/info"): _info,
    ("GET", "/sys/v1/tls_public_keys"): _tls_public_keys,
    ("GET", "/sys/v1/apps/client_configs"): _client_configs,
}

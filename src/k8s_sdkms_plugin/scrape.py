"""Asks a listener for its metrics, and reads from them how the daemon stands.

Whoever has the port may answer anything: only numbers, and words of closed sets, are
taken from the answer.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from typing import TYPE_CHECKING, Final

import httpx
from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families

from k8s_sdkms_plugin.metrics import (
    COASTING_ENDS,
    KEY_ID,
    LAST_GOOD_LOOK,
    LOCAL_KEKS,
    STATE,
    TROUBLE,
)
from kms_core.errors import error_classes
from kms_core.standing import Phase


if TYPE_CHECKING:
    from k8s_sdkms_plugin.config.model import ListenAddress

    _Samples = dict[str, list[tuple[dict[str, str], float]]]


MAX_PAGE_BYTES: Final = 1_000_000

_HTTP_OK: Final = 200
_HASH: Final = re.compile("sha256:[0-9a-f]{64}")


@frozen(kw_only=True)
class Seen:
    """What the listener says.

    Attributes:
        problem: Why it says nothing, one line; empty if it does, and all of the rest
            is unknown otherwise.
        state: The phase.
        code: Code of the error behind it; empty if all is well.
        key_id_hash: The announced key_id, hashed as kube-apiserver does.
        coasting_ends: When Status will fail if nothing changes.
        last_good_look: When DSM and the key were last seen well.
        local_keks: How many local KEKs are in memory.
    """

    problem: str = ""
    state: str = ""
    code: str = ""
    key_id_hash: str = ""
    coasting_ends: dt.datetime | None = None
    last_good_look: dt.datetime | None = None
    local_keks: int | None = None


async def ask_listener(address: ListenAddress, timeout_s: float) -> Seen:
    """Return what the listener at *address* says within *timeout_s* seconds."""
    page = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_s),
            # No proxy and no .netrc of the environment's.
            httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client,
            client.stream("GET", f"http://{address}/metrics") as answer,
        ):
            if answer.status_code != _HTTP_OK:
                return Seen(problem=f"answers with HTTP status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                page += chunk
                if len(page) > MAX_PAGE_BYTES:
                    return Seen(problem="is no listener of ours")
    except (TimeoutError, httpx.TimeoutException):
        return Seen(problem=f"does not answer within {timeout_s:g} s")
    except httpx.HTTPError as error:
        return Seen(problem=f"does not answer ({type(error).__name__})")
    try:
        return _read(page.decode())
    except Exception:  # noqa: BLE001 - whoever has the port may answer anything
        return Seen(problem="is no listener of ours")


def _read(page: str) -> Seen:
    samples: _Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found = samples.setdefault(sample.name, [])
            found.append((sample.labels, sample.value))
    (state,) = (labels["state"] for labels, value in samples[STATE] if value == 1)
    known = {cls.code for cls in error_classes()}
    code = _label(samples, TROUBLE, "code")
    hashed = _label(samples, KEY_ID, "key_id_hash")
    kept = _number(samples, LOCAL_KEKS)
    return Seen(
        state=Phase(state).value,
        code=code if code in known else "",
        key_id_hash=hashed if _HASH.fullmatch(hashed) else "",
        coasting_ends=_date(samples, COASTING_ENDS),
        last_good_look=_date(samples, LAST_GOOD_LOOK),
        local_keks=None if kept is None else int(kept),
    )


def _label(samples: _Samples, name: str, label: str) -> str:
    found = samples.get(f"{name}_info")
    return found[0][0][label] if found else ""


def _number(samples: _Samples, name: str) -> float | None:
    found = samples.get(name)
    return found[0][1] if found else None


def _date(samples: _Samples, name: str) -> dt.datetime | None:
    at = _number(samples, name)
    return None if at is None else dt.datetime.fromtimestamp(round(at), dt.UTC)

"""Every switch of the domain by name: what it is, how to read it, how to set it.

The control API and the command line show this table and need no list of their own. A
switch whose help ends in "(assumed)" stands for something that is not known of DSM; its
initial value is what the reference takes for likely.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import frozen

from dsm_emulator.answer_shape import ErrorForm
from dsm_emulator.dsm import Dsm
from dsm_emulator.key_index import RotatedNameForm
from dsm_emulator.lag import LagPer, LagScope
from dsm_emulator.logins import JwtSubject, JwtTransport, SessionCertificate
from dsm_emulator.state_table import CELLS, Condition, Operation
from dsm_emulator.switch_values import (
    BOOL,
    COUNT,
    INSTANT,
    LENGTH,
    NUMBERS,
    SECONDS,
    STATUS,
    TEXT,
    TEXTS,
    Kind,
    choice,
    optional,
)


@frozen
class Switch:
    """One switch.

    Attributes:
        name: E.g. "session-idle"; cells of the state table are
            "cell.<condition>.<operation>", their texts "text.<condition>".
        type: What it takes, for people.
        help: What it does, for people.
        read: From the model to a JSON value.
        write: From a JSON value to the model; ValueError, with a line for people, when
            it is none for this switch.
    """

    name: str
    type: str
    help: str
    read: Callable[[Dsm], Any]
    write: Callable[[Dsm, Any], None]


_Row: TypeAlias = tuple[str, str, Kind, str]
_LOGINS: list[_Row] = [
    ("session-idle", "sessions.idle_s", SECONDS, "idle life of a session; expires_in"),
    (
        "session-max-life",
        "sessions.max_life_s",
        optional(SECONDS),
        "longest life of a session, used or not (assumed)",
    ),
    (
        "lost-session-status",
        "logins.lost_session_status",
        STATUS,
        "answer to a token that isn't there: 401, or 403",
    ),
    (
        "lost-session-text",
        "logins.rules.lost_session_text",
        TEXT,
        "its text (assumed)",
    ),
    (
        "bad-credential-status",
        "logins.rules.bad_credential_status",
        STATUS,
        "answer to a wrong credential or a disabled app",
    ),
    (
        "bad-credential-text",
        "logins.rules.bad_credential_text",
        TEXT,
        "its text (assumed)",
    ),
    (
        "no-credential-text",
        "logins.rules.no_credential_text",
        TEXT,
        "text of the 401 for no credential at all (assumed)",
    ),
    (
        "address-status",
        "logins.rules.address_status",
        STATUS,
        "answer to an address that an app's policy doesn't list (assumed)",
    ),
    (
        "session-certificate",
        "logins.rules.session_certificate",
        choice(SessionCertificate),
        "what bearer calls of an app with a certificate present (assumed)",
    ),
    (
        "jwt-transport",
        "logins.rules.jwt_transport",
        choice(JwtTransport),
        "how a JWT is sent to session/auth (assumed)",
    ),
    (
        "jwt-subject",
        "logins.rules.jwt_subject",
        choice(JwtSubject),
        "by what a JWT names its app (assumed)",
    ),
    (
        "fips",
        "logins.fips",
        BOOL,
        "100 failed API keys in 24 hours replace an app's secret",
    ),
]
_ACCOUNT: list[_Row] = [
    ("account-enabled", "account.enabled", BOOL, "false stops all crypto"),
    (
        "trial-ends",
        "account.trial_ends_s",
        optional(INSTANT),
        "from then on all crypto stops",
    ),
    (
        "disable-when-deactivated",
        "account.mark_key_disable_when_deactivated",
        BOOL,
        "deactivation also takes `enabled` from a key (assumed)",
    ),
    (
        "deactivate-rotated-key",
        "account.deactivate_rotated_key",
        BOOL,
        "a rekey that doesn't say deactivates the old key (assumed)",
    ),
    (
        "key-undo-window",
        "account.key_undo_window_s",
        optional(SECONDS),
        "how long changes of a key can be undone; null: no policy",
    ),
    (
        "operations-per-second",
        "quota.per_second",
        optional(COUNT),
        "operations that an account may do in a second",
    ),
    (
        "operations-total",
        "quota.total",
        optional(COUNT),
        "operations that an account may do at all",
    ),
    (
        "approve-automatically",
        "approvals.automatic",
        BOOL,
        "approval requests are approved as soon as they are made",
    ),
]
_KEYS: list[_Row] = [
    ("lag", "keys.lag.seconds", SECONDS, "how long one node doesn't know of a change"),
    ("lag-per", "keys.lag.per", choice(LagPer), "what the nodes take turns by"),
    (
        "lag-scope",
        "keys.lag.scope",
        choice(LagScope),
        "what the node that is behind doesn't know of (assumed)",
    ),
    (
        "rotated-name",
        "keys.rules.rotated_name_form",
        choice(RotatedNameForm),
        "the timestamp in a rotated key's name (assumed)",
    ),
    (
        "dates-move-states",
        "keys.rules.dates_move_states",
        BOOL,
        "activation and deactivation dates act by themselves (assumed)",
    ),
    (
        "gcm-iv-bytes",
        "cipher.gcm_iv_bytes",
        LENGTH,
        "length of an IV for GCM (assumed)",
    ),
    (
        "gcm-tag-bits",
        "cipher.gcm_tag_bits",
        NUMBERS,
        "tag lengths for GCM (assumed)",
    ),
]
_SERVICE: list[_Row] = [
    ("healthy", "healthy", BOOL, "sys/v1/health answers 204, else 503"),
    ("read-only", "read_only", BOOL, "calls that write are refused"),
    (
        "legacy-paths",
        "rules.legacy_paths",
        BOOL,
        "paths of versions before 5.8: GET keys/{kid}, keys/{kid}/encrypt ...",
    ),
    (
        "app-reads-itself",
        "rules.app_reads_itself",
        BOOL,
        "a crypto app may GET its own app (assumed)",
    ),
    (
        "loose-base64",
        "rules.loose_base64",
        BOOL,
        "url-safe and unpadded base64 is taken (assumed)",
    ),
    ("server-mode", "rules.server_mode", TEXT, "Software or Sgx, in version"),
    ("fips-level", "rules.fips_level", optional(COUNT), "fips_level, in version"),
    (
        "client-retry-timeout-ms",
        "rules.client_retry_timeout_ms",
        optional(COUNT),
        "retry_timeout_millis, in client_configs",
    ),
    (
        "unknown-fields",
        "shape.unknown_fields",
        BOOL,
        "each JSON object carries a field that nobody knows",
    ),
    (
        "nulls",
        "shape.nulls",
        BOOL,
        "absent optional fields of a key are null (assumed)",
    ),
    ("kcv", "shape.kcv", BOOL, "keys carry their check values unasked"),
    (
        "effective-key-policy",
        "shape.effective_key_policy",
        BOOL,
        "keys say what the caller may do (assumed)",
    ),
    (
        "omitted-fields",
        "shape.omitted",
        TEXTS,
        "fields of a key that are left out, e.g. state (assumed)",
    ),
    (
        "error-form",
        "shape.error_form",
        choice(ErrorForm),
        "the form of a refusal (assumed)",
    ),
]


def _of_attribute(row: _Row) -> Switch:
    name, path, kind, text = row
    folder, _, attribute = path.rpartition(".")

    def holder(dsm: Dsm) -> Any:
        return operator.attrgetter(folder)(dsm) if folder else dsm

    def write(dsm: Dsm, value: Any) -> None:
        parsed = kind.parse(value)
        with dsm.lock:
            setattr(holder(dsm), attribute, parsed)
            dsm.touch()

    def read(dsm: Dsm) -> Any:
        return kind.show(getattr(holder(dsm), attribute))

    return Switch(name, kind.name, text, read, write)


def _of_cell(condition: Condition, cell: Operation) -> Switch:
    name = f"cell.{_slug(condition)}.{cell.name.lower().replace('_', '-')}"

    def write(dsm: Dsm, value: Any) -> None:
        status = STATUS.parse(value)
        with dsm.lock:
            dsm.table.set(condition, cell, status)
            dsm.touch()

    return Switch(
        name,
        STATUS.name,
        f"answer to {cell.name} when: {condition.value} (assumed)",
        lambda dsm: dsm.table.status(condition, cell),
        write,
    )


def _of_text(condition: Condition) -> Switch:
    def write(dsm: Dsm, value: Any) -> None:
        text = TEXT.parse(value)
        with dsm.lock:
            dsm.table.set_text(condition, text)
            dsm.touch()

    return Switch(
        f"text.{_slug(condition)}",
        TEXT.name,
        f"text of the refusal when: {condition.value} (assumed)",
        lambda dsm: dsm.table.text(condition),
        write,
    )


def _slug(condition: Condition) -> str:
    return condition.name.lower().replace("_", "-")


SWITCHES: Mapping[str, Switch] = {
    switch.name: switch
    for switch in (
        *(_of_attribute(row) for row in (*_LOGINS, *_ACCOUNT, *_KEYS, *_SERVICE)),
        *(_of_cell(condition, cell) for condition, cell in CELLS),
        *(_of_text(condition) for condition in Condition),
    )
}

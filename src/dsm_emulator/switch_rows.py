"""The switches that are an attribute of the model: name, path, kind, help."""

from typing import TypeAlias

from dsm_emulator.answer_shape import ErrorForm
from dsm_emulator.key_index import RotatedNameForm
from dsm_emulator.lag import LagPer, LagScope
from dsm_emulator.login_rules import JwtSubject, JwtTransport, SessionCertificate
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


Row: TypeAlias = tuple[str, str, Kind, str]
LOGINS: list[Row] = [
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
ACCOUNT: list[Row] = [
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
KEYS: list[Row] = [
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
SERVICE: list[Row] = [
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


ROWS = (*LOGINS, *ACCOUNT, *KEYS, *SERVICE)

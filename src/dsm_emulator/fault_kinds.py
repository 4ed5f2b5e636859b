"""What can go wrong: the kinds of faults, when each strikes, and what it is told.

Whatever the kind, a fault may be limited to a time. All but those of the listener may
be for a number of strikes and for the connection of one number; those of a request, of
its answer and of the wire for a path and an app, too.
"""

from enum import StrEnum

from attrs import frozen


class Stage(StrEnum):
    """When a fault strikes; `STAGES` says it in words."""

    LISTENER = "listener"
    CONNECTION = "connection"
    REQUEST = "request"
    INSTEAD = "instead"
    ANSWER = "answer"
    WIRE = "wire"


STAGES = {
    Stage.LISTENER: "before a connection is accepted",
    Stage.CONNECTION: "between TCP's handshake and HTTP",
    Stage.REQUEST: "before DSM looks at a request, which is answered nonetheless",
    Stage.INSTEAD: "instead of DSM: the operation does not happen",
    Stage.ANSWER: "in the JSON object that DSM answers with: the operation happened",
    Stage.WIRE: "on an answer's way to the client: the operation happened",
}


class FaultKind(StrEnum):
    """The kinds; `KINDS` says what each does."""

    REFUSE = "refuse"
    STALL_ACCEPT = "stall-accept"

    RESET_ON_ACCEPT = "reset-on-accept"
    STALL_HANDSHAKE = "stall-handshake"
    TLS_EXPIRED = "tls-expired"
    TLS_WRONG_HOST = "tls-wrong-host"
    TLS_UNKNOWN_CA = "tls-unknown-ca"
    TLS_CLIENT_CERTIFICATE = "tls-client-certificate"
    TLS_OLD = "tls-1.1"

    LATENCY = "latency"
    HANG = "hang"
    SESSION_LOST = "session-lost"
    CLOSE_IDLE = "close-idle"

    STATUS = "status"
    REDIRECT = "redirect"
    RESET = "reset"
    HANG_UP = "hang-up"

    DROP_FIELD = "drop-field"
    SET_FIELD = "set-field"
    RESIZE_FIELD = "resize-field"
    WRONG_KID = "wrong-kid"
    NOT_JSON = "not-json"
    TRUNCATED_JSON = "truncated-json"
    HUGE_BODY = "huge-body"
    GZIP = "gzip"
    ERROR_TEXT = "error-text"
    NO_CONTENT = "no-content"

    RESET_AFTER = "reset-after"
    DISCONNECT = "disconnect"
    BAD_STATUS_LINE = "bad-status-line"
    BAD_CHUNK = "bad-chunk"
    OVERSIZED_HEADERS = "oversized-headers"
    SHORT_BODY = "short-body"
    LONG_BODY = "long-body"
    STALL_HEADERS = "stall-headers"
    TRICKLE = "trickle"


@frozen
class KindRule:
    """What holds for a kind.

    Attributes:
        stage: When it strikes.
        help: What it does, for people.
        needs: The parameters that it can't do without.
        takes: Those that it may have besides.
    """

    stage: Stage
    help: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def reads(self) -> frozenset[str]:
        """Return the names of all parameters that it reads."""
        return _LIMITS[self.stage] | {*self.needs, *self.takes}


_OF_REQUESTS = frozenset({"count", "seconds", "connection", "path", "app"})
_LIMITS: dict[Stage, frozenset[str]] = {
    # Whom the kernel refuses isn't counted, and has no number.
    Stage.LISTENER: frozenset({"seconds"}),
    Stage.CONNECTION: frozenset({"count", "seconds", "connection"}),
    Stage.REQUEST: _OF_REQUESTS,
    Stage.INSTEAD: _OF_REQUESTS,
    Stage.ANSWER: _OF_REQUESTS,
    Stage.WIRE: _OF_REQUESTS,
}
_K = FaultKind

KINDS: dict[FaultKind, KindRule] = {
    _K.REFUSE: KindRule(Stage.LISTENER, "new connections are refused"),
    _K.STALL_ACCEPT: KindRule(
        Stage.LISTENER, "new connections stand, and nobody accepts them"
    ),
    _K.RESET_ON_ACCEPT: KindRule(
        Stage.CONNECTION, "a connection is reset once it stands"
    ),
    _K.STALL_HANDSHAKE: KindRule(
        Stage.CONNECTION, "the TLS handshake gets no answer until the fault is cleared"
    ),
    _K.TLS_EXPIRED: KindRule(Stage.CONNECTION, "the server's certificate is expired"),
    _K.TLS_WRONG_HOST: KindRule(
        Stage.CONNECTION, "the server's certificate is for another host"
    ),
    _K.TLS_UNKNOWN_CA: KindRule(
        Stage.CONNECTION, "the server's certificate is of a CA that nobody knows"
    ),
    _K.TLS_CLIENT_CERTIFICATE: KindRule(
        Stage.CONNECTION, "a client without a certificate is turned away"
    ),
    _K.TLS_OLD: KindRule(Stage.CONNECTION, "the server speaks TLS 1.1 alone"),
    _K.LATENCY: KindRule(
        Stage.REQUEST,
        "the answer comes later by `ms`, by a random part of `jitter_ms`, and by "
        "`tail_ms` in the share `tail_share` of requests",
        needs=("ms",),
        takes=("jitter_ms", "tail_ms", "tail_share", "seed"),
    ),
    _K.HANG: KindRule(
        Stage.REQUEST, "no answer until the fault is cleared, or the client goes"
    ),
    _K.SESSION_LOST: KindRule(Stage.REQUEST, "all sessions end"),
    _K.CLOSE_IDLE: KindRule(
        Stage.REQUEST,
        "the connection is closed once it was idle for `ms` after this answer; at "
        "once if absent",
        takes=("ms",),
    ),
    _K.STATUS: KindRule(
        Stage.INSTEAD,
        "this `status`, with `text` in the shape `body`; Retry-After as given by "
        "`retry_after`, or as a date that is `retry_date_s` seconds ahead",
        needs=("status",),
        takes=("text", "body", "size", "retry_after", "retry_date_s"),
    ),
    _K.REDIRECT: KindRule(
        Stage.INSTEAD,
        "a redirect to the URL `location`; {path} in it stands for the path",
        needs=("location",),
        takes=("status",),
    ),
    _K.RESET: KindRule(Stage.INSTEAD, "the connection is reset (TCP RST)"),
    _K.HANG_UP: KindRule(Stage.INSTEAD, "the connection is closed (TCP FIN)"),
    _K.DROP_FIELD: KindRule(Stage.ANSWER, "`field` is missing", needs=("field",)),
    _K.SET_FIELD: KindRule(
        Stage.ANSWER, "`field` is `value`", needs=("field",), takes=("value",)
    ),
    _K.RESIZE_FIELD: KindRule(
        Stage.ANSWER, "the bytes in `field` are `size` bytes", needs=("field", "size")
    ),
    _K.WRONG_KID: KindRule(Stage.ANSWER, "the kid is one that doesn't exist"),
    _K.NOT_JSON: KindRule(Stage.ANSWER, "a text that isn't JSON, said to be JSON"),
    _K.TRUNCATED_JSON: KindRule(Stage.ANSWER, "the first half of the JSON alone"),
    _K.HUGE_BODY: KindRule(
        Stage.ANSWER, "padded to more than `size` bytes", takes=("size",)
    ),
    _K.GZIP: KindRule(Stage.ANSWER, "compressed, though nobody asked for it"),
    _K.ERROR_TEXT: KindRule(
        Stage.ANSWER, "status 200 with the plain text `text`", takes=("text",)
    ),
    _K.NO_CONTENT: KindRule(Stage.ANSWER, "status 204 with nothing"),
    _K.RESET_AFTER: KindRule(
        Stage.WIRE, "the connection is reset (TCP RST), nothing is sent"
    ),
    _K.DISCONNECT: KindRule(
        Stage.WIRE,
        "the connection is closed at `stage`: start, headers or body",
        takes=("stage",),
    ),
    _K.BAD_STATUS_LINE: KindRule(Stage.WIRE, "the status line isn't one"),
    _K.BAD_CHUNK: KindRule(Stage.WIRE, "the size of the first chunk isn't a number"),
    _K.OVERSIZED_HEADERS: KindRule(
        Stage.WIRE, "a header of `size` bytes", takes=("size",)
    ),
    _K.SHORT_BODY: KindRule(
        Stage.WIRE, "fewer bytes than Content-Length says, then the end"
    ),
    _K.LONG_BODY: KindRule(
        Stage.WIRE, "more bytes than Content-Length says; the connection stays"
    ),
    _K.STALL_HEADERS: KindRule(
        Stage.WIRE, "the headers, then nothing until the fault is cleared"
    ),
    _K.TRICKLE: KindRule(
        Stage.WIRE,
        "the body in pieces of `size` bytes, each after `ms`",
        needs=("ms",),
        takes=("size",),
    ),
}

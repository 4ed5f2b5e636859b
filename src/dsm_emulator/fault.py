"""One fault: its kind, its parameters, and whom it is for."""

from enum import StrEnum
from typing import Any

import attrs

from dsm_emulator.fault_kinds import KINDS, FaultKind


class BodyForm(StrEnum):
    """The shapes in which a status can come; DSM's own is text."""

    TEXT = "text"
    JSON = "json"
    JSON_STRING = "json-string"
    HTML = "html"
    EMPTY = "empty"
    HUGE = "huge"


class CutAt(StrEnum):
    """How much of an answer gets through before a disconnect."""

    START = "start"
    HEADERS = "headers"
    BODY = "body"


@attrs.frozen
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong, a `FaultKind` or its text; `KINDS` says what it reads.
        path: Only for this path, or for paths that match it as a shell pattern.
        app: Only for requests that name the app of this id.
        connection: Only for the connection of this number, from 1.
        count: For so many strikes; for all when absent.
        seconds: For so long, by the model's clock, from when it is added.
        ms: A delay.
        jitter_ms: A random delay from 0 to this, besides.
        tail_ms: A delay that comes rarely, besides.
        tail_share: How rarely, from 0 to 1.
        seed: Of what is random.
        status: The HTTP status; of a redirect 307 when absent.
        retry_after: The Retry-After header, verbatim.
        retry_date_s: A Retry-After header with the date in so many seconds.
        body: The shape of the body, a `BodyForm` or its text.
        text: What the body says.
        location: The URL of a redirect, verbatim but for {path}.
        field: The name of a field.
        value: Any JSON value.
        size: In bytes; the default is that of the kind.
        stage: Where an answer is cut, a `CutAt` or its text.
    """

    kind: FaultKind = attrs.field(converter=FaultKind)
    path: str | None = None
    app: str | None = None
    connection: int | None = None
    count: int | None = None
    seconds: float | None = None
    ms: float | None = None
    jitter_ms: float = 0.0
    tail_ms: float = 0.0
    tail_share: float = 0.01
    seed: int = 0
    status: int | None = None
    retry_after: str | None = None
    retry_date_s: float | None = None
    body: BodyForm = attrs.field(default=BodyForm.TEXT, converter=BodyForm)
    text: str = "injected fault"
    location: str | None = None
    field: str | None = None
    value: Any = None
    size: int | None = None
    stage: CutAt = attrs.field(default=CutAt.START, converter=CutAt)

    def __attrs_post_init__(self) -> None:
        for needed in KINDS[self.kind].needs:
            if getattr(self, needed) is None:
                raise ValueError(f"a fault of kind {self.kind} needs {needed}")
        if self.count is not None and self.count < 1:
            raise ValueError("a fault's count is at least 1")
        for name in ("ms", "jitter_ms", "tail_ms", "seconds", "size"):
            number = getattr(self, name)
            if number is not None and not 0 <= number < float("inf"):
                raise ValueError(f"a fault's {name} is at least 0")
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004
            raise ValueError("a fault's status is from 200 to 599")
        for name in ("retry_after", "location"):
            header = getattr(self, name)
            if header is not None and not (header.isascii() and header.isprintable()):
                raise ValueError(f"a fault's {name} is printable ASCII")

    def told(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(Fault)[1:]
            if getattr(self, field.name) != field.default
        }

    def unread(self) -> list[str]:
        """Return the parameters that are set, and that its kind doesn't read."""
        return sorted(self.told().keys() - KINDS[self.kind].reads())

"""A request and an answer, as both APIs of the emulator see them."""

import json
from typing import Any
from urllib.parse import parse_qs

from attrs import field, frozen

from dsm_emulator.errors import DsmError


@frozen
class Request:
    """A request with its body read.

    Attributes:
        path: Without query, percent-decoded, one slash at its front.
        query: As sent, without the question mark.
        authorization: The header of that name.
        peer_certificate_der: The certificate that the client proved in the handshake.
        peer_address: The client's IP address.
        connection: The serial number of the connection, from 1; 0 is: not known.
    """

    method: str
    path: str
    query: bytes
    authorization: str | None = field(repr=lambda _: "'***'")
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    peer_certificate_der: bytes | None = field(default=None, repr=False)
    peer_address: str | None = None
    connection: int = 0

    @property
    def caller(self) -> tuple[str | None, bytes | None, str | None]:
        """What shows who is calling: the header, the certificate, the address."""
        return self.authorization, self.peer_certificate_der, self.peer_address

    def parameter(self, name: str) -> str | None:
        """Return the last query parameter called *name*."""
        if not self.query:
            return None
        values = parse_qs(self.query.decode("latin-1")).get(name)
        return values[-1] if values else None


@frozen
class Answer:
    """An answer: a JSON value, a text, or nothing.

    Attributes:
        status: The HTTP status.
        json: The value, when there is one; it stays a value until it is sent, so that
            a fault can spoil it.
        text: The text of a refusal.
        kid: The key that this is about, for the journal.
    """

    status: int
    json: Any = None
    text: str | None = None
    kid: str | None = None

    @classmethod
    def of_refusal(cls, refused: DsmError, kid: str | None = None) -> "Answer":
        """Return the answer that tells of *refused*."""
        return cls(refused.status, text=refused.text, kid=kid)

    def body(self) -> tuple[bytes, bytes]:
        """Return the content type, empty when there is no body, and the body."""
        if self.json is not None:
            return b"application/json", encode_json(self.json)
        if self.text is not None:
            return b"text/plain; charset=utf-8", self.text.encode()
        return b"", b""


def encode_json(value: Any) -> bytes:
    """Return *value* as compact JSON."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(separators=(",", ":"))

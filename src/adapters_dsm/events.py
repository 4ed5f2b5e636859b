"""Events of the adapter: what happens to the credential and to endpoints."""

from __future__ import annotations

from attrs import frozen

from kms_core.ports import Event


@frozen(kw_only=True)
class CredentialDoubted(Event):
    """Something about the credential needs a person; the adapter goes on.

    Attributes:
        setting: The setting that it is about.
        what: What is wrong, one line without secrets.
        remedy: What to do, one line.
    """

    setting: str
    what: str
    remedy: str


@frozen(kw_only=True)
class CredentialReplaced(Event):
    """DSM took the credential that now stands in the files.

    Attributes:
        setting: The setting that names the file, or the first of several.
    """

    setting: str


@frozen(kw_only=True)
class EndpointLeft(Event):
    """Calls go to other endpoints first.

    Attributes:
        endpoint: Its ``host[:port]``.
        code: Code of the error that was the reason.
        cause: What happened.
    """

    endpoint: str
    code: str
    cause: str


@frozen(kw_only=True)
class EndpointBack(Event):
    """Calls go to an endpoint again in its old turn.

    Attributes:
        endpoint: Its ``host[:port]``.
    """

    endpoint: str

"""Where the app's credential comes from, and which choices make sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from adapters_dsm.settings import Secret, as_kid, check_api_key


if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


CERTIFICATE: Final = ("client_cert_file", "client_key_file")
"""The settings of a client certificate; one is nothing without the other."""

_SECRETS: Final = ("api_key", "api_key_file", "jwt_file")
_FILES: Final = ("api_key_file", "jwt_file", *CERTIFICATE)
_ALL: Final = (*_SECRETS, *CERTIFICATE, "app_id")


@frozen
class Contradiction:
    """Why settings of the credential do not go together.

    Attributes:
        setting: The setting to look at.
        what: What is wrong with it.
        remedy: What would be right.
    """

    setting: str
    what: str
    remedy: str


def contradictions(given: Collection[str]) -> list[Contradiction]:
    """Return what is wrong with a choice of credential settings.

    Args:
        given: Names of the settings that are given; others than the credential's are
            passed over.
    """
    secrets = [name for name in _SECRETS if name in given]
    found = [
        Contradiction(name, f"is given together with {secrets[0]}", "keep one of them")
        for name in secrets[1:]
    ]
    for name, other in (CERTIFICATE, CERTIFICATE[::-1]):
        if name not in given and other in given:
            what = f"is missing beside {other}"
            found.append(Contradiction(name, what, "name the file of the other half"))
    certified = any(name in given for name in CERTIFICATE)
    if not secrets and not certified:
        found.append(
            Contradiction(
                "api_key",
                "is missing, and so is any other credential",
                "add the API key of the DSM app; or api_key_file, jwt_file, or "
                "client_cert_file with client_key_file",
            )
        )
    if "app_id" in given and secrets:
        what = f"is given together with {secrets[0]}, which names the app"
        found.append(Contradiction("app_id", what, "remove it"))
    elif "app_id" in given and not certified:
        what = "names the app of a client certificate, and there is none"
        found.append(Contradiction("app_id", what, "remove it"))
    return found


@frozen(kw_only=True)
class CredentialSource:
    """Where the credential comes from. Files are not read here.

    Attributes:
        api_key: The app's API key, exactly as DSM shows it (it is base64 already).
        api_key_file: A file that holds it.
        jwt_file: A file that holds a signed JWT.
        client_cert_file: PEM file of the client certificate, its chain after it.
        client_key_file: PEM file of its private key, not encrypted.
        app_id: UUID of the app, for a certificate without API key and JWT.

    Raises:
        ValueError: They do not go together; the text says what would be right.
    """

    api_key: Secret | None = None
    api_key_file: Path | None = None
    jwt_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    app_id: str | None = None

    def __attrs_post_init__(self) -> None:
        problems = contradictions([n for n in _ALL if getattr(self, n) is not None])
        if problems:
            first = problems[0]
            raise ValueError(f"{first.setting} {first.what}; {first.remedy}")
        if self.app_id is not None and as_kid(self.app_id) is None:
            raise ValueError("app_id must be a UUID, such as DSM shows for the app")
        if self.api_key is not None:
            try:
                check_api_key(self.api_key)
            except ValueError as problem:
                raise ValueError(f"api_key {problem}") from None

    @property
    def main_setting(self) -> str:
        """The first of the settings that are given, to speak of the credential."""
        return next(name for name in _ALL if getattr(self, name) is not None)

    @property
    def files(self) -> dict[str, Path]:
        """The files to read, by setting."""
        named = {name: getattr(self, name) for name in _FILES}
        return {name: path for name, path in named.items() if path is not None}

"""The client of the control API: one command, one call, one JSON value."""

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
from attrs import frozen

from dsm_emulator.folder import (
    ADMIN_API_KEY,
    API_KEY,
    CONTROL_TOKEN,
    DESCRIPTION,
    write_private,
)


_TIMEOUT_S = 10.0


class ControlError(Exception):
    """A command that could not be done; the message is for a person."""


@frozen
class Call:
    """A call of the control API: method, path below its prefix, and body."""

    method: str
    path: str
    body: dict[str, Any] | None = None


class EmulatorProcess:
    """A running emulator, as its folder describes it."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            ControlError: No emulator runs there.
        """
        self._folder = folder
        try:
            described = json.loads((folder / DESCRIPTION).read_text("utf-8"))
            self._token = (folder / CONTROL_TOKEN).read_text("utf-8")
        except FileNotFoundError:
            raise ControlError(f"no emulator is running in {folder}") from None
        self.key_name: str = described["key_name"]
        self.app_id: str = described["app_id"]
        self.admin_app_id: str = described["admin_app_id"]
        self._url: str = described["url"]
        self._ca_file: str | None = described["ca_file"]

    def ask(self, call: Call) -> Any:
        """Return what the emulator answers to *call*.

        Raises:
            ControlError: It refuses, or can't be reached.
        """
        verify = ssl.create_default_context(cafile=self._ca_file)
        try:
            # A proxy from the environment has no business on the loopback.
            with httpx.Client(
                verify=verify, timeout=_TIMEOUT_S, trust_env=False
            ) as client:
                answer = client.request(
                    call.method,
                    f"{self._url}/emulator/v1/{call.path}",
                    json=call.body,
                    headers={"Authorization": f"Bearer {self._token}"},
                )
        except httpx.TransportError as failed:
            raise ControlError(f"no answer from {self._url}: {failed}") from None
        if answer.is_error:
            raise ControlError(f"{answer.status_code}: {answer.text}")
        return answer.json()

    def reset_secret(self, *, admin: bool, migration_s: float | None) -> Any:
        """Reset an app's secret, put the new API key into its file, tell which.

        Raises:
            ControlError: As in `ask`.
        """
        app_id = self.admin_app_id if admin else self.app_id
        body = {"app_id": app_id, "migration_s": migration_s}
        answer = self.ask(Call("POST", "reset-secret", body))
        path = self._folder / (ADMIN_API_KEY if admin else API_KEY)
        write_private(path, answer["api_key"])
        return {"app_id": app_id, "api_key_file": str(path)}

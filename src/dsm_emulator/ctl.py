"""The client of the control API: one command, one call, one JSON value."""

import contextlib
import json
import ssl
import time
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
_RETRY_S = 0.02


class ControlError(Exception):
    """A command that could not be done; the message is for a person."""


@frozen
class Call:
    """A call of the control API: method, path below its prefix, and body."""

    method: str
    path: str
    body: dict[str, Any] | None = None


class EmulatorProcess:
    """A running emulator, as its folder describes it.

    Attributes:
        key_name: The key that `serve` made.
        app_id: The app that `serve` made for the plugin.
        group_id: The group of that key.
    """

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
        self.group_id: str = described["group_id"]
        self._admin_app_id: str = described["admin_app_id"]
        self._url: str = described["control_url"]
        self._ca_file: str | None = described["ca_file"]

    def ask(self, call: Call) -> Any:
        """Return what the emulator answers to *call*.

        An API key in the answer goes into a file of the folder, and the file's name
        takes its place.

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
        shown = answer.json()
        if isinstance(shown, dict) and "api_key" in shown:
            return self._with_api_key_in_file(shown)
        return shown

    def restart(self, call: Call) -> Any:
        """Do *call*, which restarts the emulator; return once it listens again.

        Raises:
            ControlError: As in `ask`; or it doesn't come back.
        """
        before = self.ask(call)
        ends_s = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < ends_s:
            # It refuses connections, or resets them, while it restarts.
            with contextlib.suppress(ControlError):
                after = self.ask(Call("GET", "status"))
                if after["starts"] > before["starts"]:
                    return {**before, "starts": after["starts"]}
            time.sleep(_RETRY_S)
        raise ControlError(f"{self._url} did not come back")

    def _with_api_key_in_file(self, shown: dict[str, Any]) -> dict[str, Any]:
        app_id = shown["app_id"]
        names = {self.app_id: API_KEY, self._admin_app_id: ADMIN_API_KEY}
        path = self._folder / names.get(app_id, f"{API_KEY}-{app_id}")
        write_private(path, shown.pop("api_key"))
        return {**shown, "api_key_file": str(path)}

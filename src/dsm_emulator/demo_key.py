"""What a plugin needs to start at once: a model with an app, a group and a key."""

from typing import TYPE_CHECKING

from attrs import frozen

from dsm_emulator.account import App, Group
from dsm_emulator.sobject import Sobject


if TYPE_CHECKING:
    from dsm_emulator.dsm import Dsm


@frozen
class DemoKey:
    """A DSM and what a plugin needs to use it.

    Attributes:
        dsm: The DSM.
        app: The plugin's app, of role crypto, with ENCRYPT and DECRYPT.
        admin: An app of role admin.
        group: The group of the key.
        key: An AES key.
    """

    dsm: "Dsm"
    app: App
    admin: App
    group: Group
    key: Sobject

    @property
    def api_key(self) -> str:
        """The API key of the plugin's app."""
        return self.app.api_key

    @property
    def admin_api_key(self) -> str:
        """The API key of the admin app."""
        return self.admin.api_key

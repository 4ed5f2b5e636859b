"""The place that the guides describe, as far as no cluster is needed."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any, Final

import httpx
from tests.unit.docs.site_of_readme import Site, read_until
from tests.unit.docs.support import Block


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.docs.support import Page


CONFIG: Final = "/etc/fortanix/k8s-sdkms-plugin.json"


class GuideSite(Site):
    """A folder with an emulator of DSM that has no key called ``kubernetes`` yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.as_written = folder / "as-written.json"
        self._dsm: dict[str, str] = {}

    def start_dsm(self) -> None:
        """Start DSM, and put the two credentials where the guide expects them."""
        served = self.start(
            f"k8s-sdkms-plugin emulator serve --dir {self.folder / 'dsm'}"
        )
        self._dsm = json.loads(read_until(served.stdout, "{"))
        api_key = (self.folder / "dsm" / "api-key").read_text()
        self._write("dsm-api-key", api_key)
        # kubeadm's own.
        (self.folder / "kubernetes" / "manifests").mkdir(parents=True)
        self._write("dsm-admin-header", f"Authorization: Basic {self._admin_key()}\n")

    def run_in_guide(self, block: Block, page: Page) -> str:
        """Run a block, which must succeed, and return what it prints."""
        text = f"export DSM={self._dsm['url']}\n{block.text}"
        if "--config" in text and "plugin render" in text:
            # It refuses paths that a unit or a pod can't have, such as those of here.
            text = text.replace(CONFIG, str(self.as_written))
        try:
            printed = self.run(Block(block.mark, block.language, text, 0))
        except AssertionError as failure:
            failure.add_note(f"{page.path.name}:{block.line}")
            raise
        if self.config.exists() and not self.as_written.exists():
            # The guide's paths are in it; the daemon needs those of here.
            self.as_written.write_text(self.config.read_text())
            self.config.write_text(self.here(self.config.read_text()))
        return printed

    def trust(self) -> dict[str, str]:
        """Return the environment in which DSM's certificate is trusted."""
        ca_file = self._dsm["ca_file"]
        return {"SSL_CERT_FILE": ca_file, "CURL_CA_BUNDLE": ca_file}

    def dsm_key(self) -> dict[str, Any]:
        """Return the key as DSM describes it."""
        answer = httpx.post(
            f"{self._dsm['url']}/crypto/v1/keys/info",
            json={"name": "kubernetes"},
            headers={"Authorization": f"Basic {self._admin_key()}"},
            verify=ssl.create_default_context(cafile=self._dsm["ca_file"]),
            trust_env=False,
        )
        described: dict[str, Any] = answer.raise_for_status().json()
        return described

    def environment(self) -> dict[str, str]:
        return super().environment() | (self.trust() if self._dsm else {})

    def _paths(self) -> dict[str, Path | str]:
        if not self._dsm:
            return super()._paths()
        return super()._paths() | {
            "https://eu.smartkey.io": self._dsm["url"],
            "UUID-OF-THE-GROUP": self._dsm["group_id"],
            "/run/dsm-admin-header": self.folder / "dsm-admin-header",
            "/run/dsm-api-key": self.folder / "dsm-api-key",
            "/etc/fortanix": self.folder / "fortanix",
            "/etc/kubernetes": self.folder / "kubernetes",
        }

    def _admin_key(self) -> str:
        return (self.folder / "dsm" / "admin-api-key").read_text().strip()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)

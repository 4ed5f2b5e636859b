"""A stand-in for Fortanix' Go plugin 0.3.0, as a program: a test double, no more.

Written from docs/reference/dsm-api.md, section 8.1: its config file, its hash, its
answers, its refusals, and its calls of DSM. It has neither its defects nor its logs.

    python -m tests.e2e.harness.go_plugin_server -config FILE

The certificate authority is that of SSL_CERT_FILE, as for the Go plugin.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
from tests.e2e.harness.go_plugin import blob, key_id, sealed_in
from tests.e2e.harness.plugin import Sealed

from adapters_grpc.messages import (
    SERVICE,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
)


class GoPluginServer:
    """Its three methods, bytes in and bytes out."""

    def __init__(self, config: dict[str, str]) -> None:
        self._key = {"name": config["key_name"]}
        self._key_id = key_id(config["sdkms_endpoint"], config["key_name"])
        self._dsm = httpx.Client(
            base_url=config["sdkms_endpoint"],
            headers={"Authorization": f"Basic {config['api_key']}"},
            verify=ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]),
            trust_env=False,
        )

    def status(self, _raw: bytes, _context: grpc.ServicerContext) -> bytes:
        """Say that all is well, without a look at DSM."""
        answer = StatusResponse(version="v2beta1", healthz="ok", key_id=self._key_id)
        return answer.SerializeToString()

    def encrypt(self, raw: bytes, _context: grpc.ServicerContext) -> bytes:
        """Have DSM encrypt by the key's name."""
        plain = EncryptRequest.FromString(raw).plaintext
        found = self._call("encrypt", {"plain": _base64(plain), "key": self._key})
        parts = (base64.b64decode(found[name]) for name in ("cipher", "iv", "tag"))
        answer = EncryptResponse(
            ciphertext=blob(Sealed(found["kid"], *parts)), key_id=self._key_id
        )
        return answer.SerializeToString()

    def decrypt(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        """Have DSM decrypt by the key's UUID, if the key_id is this config's."""
        request = DecryptRequest.FromString(raw)
        if request.key_id != self._key_id:
            context.abort(grpc.StatusCode.UNKNOWN, "KeyId does not match")
        sealed = sealed_in(request.ciphertext)
        body = {
            "key": {"kid": sealed.kid},
            "cipher": _base64(sealed.cipher),
            "iv": _base64(sealed.iv),
            "tag": _base64(sealed.tag),
        }
        plain = base64.b64decode(self._call("decrypt", body)["plain"])
        return DecryptResponse(plaintext=plain).SerializeToString()

    def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        more = {"alg": "AES", "mode": "GCM"}
        if operation == "encrypt":
            more = {**more, "tag_len": 128}  # type: ignore[dict-item]
        answer = self._dsm.post(f"/crypto/v1/{operation}", json={**more, **body})
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


def main(config_file: Path) -> None:
    """Serve until SIGTERM."""
    config = json.loads(config_file.read_text())
    plugin = GoPluginServer(config)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = grpc.server(ThreadPoolExecutor(16))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name.title(): grpc.unary_unary_rpc_method_handler(getattr(plugin, name))
        for name in ("status", "encrypt", "decrypt")
    }
    generic = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers([generic])
    socket = Path(config["socket_file"])
    # As the Go plugin does: whatever is there, it goes.
    socket.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    stop.wait()
    server.stop(1).wait()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    assert sys.argv[1] == "-config"
    main(Path(sys.argv[2]))

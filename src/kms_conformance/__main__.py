"""``python -m kms_conformance`` is ``k8s-sdkms-plugin conformance``."""

from __future__ import annotations

import sys

from kms_conformance.cli import main


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

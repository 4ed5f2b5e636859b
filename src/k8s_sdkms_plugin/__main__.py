"""``python -m k8s_sdkms_plugin`` is the console script."""

from __future__ import annotations

import sys

from k8s_sdkms_plugin.cli import main


if __name__ == "__main__":
    sys.exit(main())

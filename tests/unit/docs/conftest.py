"""Lets the tests of the documents import what they share by name."""

from __future__ import annotations

import sys
from pathlib import Path


sys.path.append(str(Path(__file__).parents[3]))

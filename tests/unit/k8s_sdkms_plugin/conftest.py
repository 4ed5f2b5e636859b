"""Lets the tests of the composition root import what they share."""

from __future__ import annotations

import sys
from pathlib import Path


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[3]))

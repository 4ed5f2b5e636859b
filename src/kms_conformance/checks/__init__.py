"""The checks: a module or two for each group of section 12 of the contract.

``everything`` imports all modules of this package, so that a new one needs no entry.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from kms_conformance.check import REGISTER


if TYPE_CHECKING:
    from kms_conformance.check import Check


def everything() -> tuple[Check, ...]:
    """Return all checks, in the order in which they run."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return REGISTER.checks()

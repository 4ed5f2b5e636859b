"""How much a run does: all of it, a quick look, or the self-test's least."""

from __future__ import annotations

import math
from typing import Final

from attrs import frozen


SOAK_S: Final = 600.0
"""Seconds of a soak in section 12 of the contract (L09)."""


@frozen
class Scale:
    """Factors of what section 12 of the contract says.

    Attributes:
        name: What the report calls it.
        load: Factor of request counts.
        idle: Factor of the waits that a check is about, such as an idle connection.
        soak: Factor of the length of a soak.
        pace: Seconds to wait for each second that the API server's model lets pass;
            0: its clock jumps.
        timeout_s: Seconds for each call; kube-apiserver's default is 3.
        limit: Factor of the time after which a check is ended.
    """

    name: str
    load: float
    idle: float
    soak: float
    pace: float
    timeout_s: float = 3.0
    limit: float = 1.0

    def count(self, full: int, *, least: int = 2) -> int:
        """Return how many requests a check sends that has *full* in the contract."""
        return min(full, max(least, math.ceil(full * self.load)))


FULL: Final = Scale("full", load=1.0, idle=1.0, soak=0.2, pace=0.1)
QUICK: Final = Scale("quick", load=0.2, idle=0.05, soak=0.01, pace=0.0)
TINY: Final = Scale("tiny", load=0.02, idle=0.001, soak=0.0005, pace=0.0)
"""For the kit's own tests, where forty bad plugins meet a hundred checks."""

"""A short soak; the long one is run by hand: ``python -m bench.soak``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.contract.daemon.support import environment


ROOT = Path(__file__).parents[3]


def test_random_faults_bring_no_wrong_answer_and_no_leak() -> None:
    bounds = ("--calls", "360", "--longest-s", "0.4", "--seed", "2")
    command = [sys.executable, "-m", "bench.soak", *bounds]
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        timeout=180,
        env=environment(),
    )
    figures = json.loads(done.stdout)
    assert figures["problems"] == []
    assert done.returncode == 0, done.stderr
    assert len(figures["disturbances"]) >= 5
    ways = {name.rpartition(" ")[0] for name in figures["calls"]}
    assert ways == {"adapter", "daemon, direct", "daemon, local-kek"}
    assert all(codes.get("OK") for codes in figures["calls"].values())
    # Faults of DSM cost none of a daemon with a warm local KEK; a busy machine may.
    warm = set(figures["calls"]["daemon, local-kek decrypt"])
    assert warm <= {"OK", "gRPC DEADLINE_EXCEEDED"}
    assert figures["opened_at_the_end"] >= 50

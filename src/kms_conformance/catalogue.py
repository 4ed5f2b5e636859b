"""The 105 checks that there must be: section 12 of docs/reference/kms-v2-contract.md.

The checks themselves say what they are; this list only knows that they exist, so that
a check that is lost, or that turns from MUST to SHOULD, is noticed.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from kms_conformance.outcome import Severity


@frozen
class Entry:
    """One line of section 12.

    Attributes:
        id: The check's id.
        severity: Its severity; for those that have two, that of its main clause.
        hook: Which hooks it needs, in the words of the section; ``-`` for none.
    """

    id: str
    severity: Severity
    hook: str

    @property
    def plain(self) -> bool:
        """Whether it needs nothing but the socket."""
        return self.hook == "-"


GROUPS: Final[tuple[tuple[str, str], ...]] = (
    ("T", "Transport"),
    ("S", "Status"),
    ("E", "Encrypt"),
    ("D", "Decrypt"),
    ("R", "Consistency and rotation"),
    ("L", "Life cycle"),
    ("A", "API-server emulation"),
    ("V", "v1beta1, where it is offered"),
)
"""Letter and title of each group."""

_TABLE: Final = """
T01  MUST    -
T02  MUST    -
T03  SHOULD  -
T04  MUST    -
T05  SHOULD  -
T06  MUST    -
T07  MUST    -
T08  MUST    -
T09  MUST    -
T10  SHOULD  -
T11  MUST    -
T12  SHOULD  -
T13  SHOULD  -
T14  SHOULD  -
T15  SHOULD  -
T16  SHOULD  -
S01  MUST    -
S02  MUST    -
S03  MUST    -
S04  MUST    -
S05  MUST    -
S06  MUST    -
S07  MUST    -
S08  MUST    -
S09  MUST    -
S10  SHOULD  KMS counter
S11  SHOULD  -
S12  MUST    stop/start
S13  MUST    break
S14  SHOULD  break
S15  SHOULD  break
S16  SHOULD  heal
E01  MUST    -
E02  MUST    -
E03  MUST    -
E04  MUST    -
E05  MUST    -
E06  MUST    -
E07  SHOULD  -
E08  MUST    -
E09  SHOULD  -
E10  SHOULD  -
E11  SHOULD  -
E12  SHOULD  -
E13  MUST    -
E14  MUST    break
E15  SHOULD  -
D01  MUST    -
D02  MUST    -
D03  MUST    -
D04  MUST    -
D05  MUST    -
D06  MUST    -
D07  MUST    -
D08  MUST    -
D09  MUST    -
D10  MUST    -
D11  MUST    -
D12  SHOULD  -
D13  MUST    -
D14  SHOULD  -
D15  SHOULD  -
D16  MUST    -
D17  MUST    -
D18  SHOULD  -
D19  MUST    saved corpus
D20  MUST    stop/start
D21  SHOULD  break
R01  MUST    -
R02  MUST    rot
R03  MUST    rot
R04  SHOULD  rot
R05  MUST    rot
R06  MUST    rot, start
R07  MUST    rot
R08  MUST    back
R09  SHOULD  rot
R10  MUST    rot+break
R11  MUST    peer, rot
R12  MUST    peer
R13  MUST    rot, start
L01  MUST    start
L02  MUST    stop/start
L03  MUST    kill/start
L04  SHOULD  stop
L05  SHOULD  stop
L06  SHOULD  start
L07  SHOULD  break/start
L08  SHOULD  start
L09  SHOULD  pid
L10  SHOULD  -
A01  MUST    -
A02  MUST    -
A03  MUST    -
A04  MUST    -
A05  MUST    rot
A06  SHOULD  break/heal
A07  MUST    -
A08  MUST    -
A09  MUST    -
V01  MUST    -
V02  MUST    -
V03  MUST    -
V04  SHOULD  -
V05  SHOULD  -
"""


def _entry(line: str) -> Entry:
    check_id, severity, hook = line.split(maxsplit=2)
    return Entry(check_id, Severity[severity], hook)


CATALOGUE: Final = tuple(_entry(line) for line in _TABLE.strip().splitlines())
"""Every check that there must be, in the order of section 12."""

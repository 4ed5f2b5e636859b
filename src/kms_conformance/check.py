"""Check: one small function, what stands on its door, and the register of all."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from kms_conformance.context import Context
    from kms_conformance.outcome import Severity

    Run = Callable[[Context], Coroutine[Any, Any, None]]


_ID: Final = re.compile(r"[TSEDRLAV][0-9]{2}")
_GROUPS_IN_ORDER: Final = "TSEDARLV"
_LABELS: Final = ("Sends", "Expects", "Why", "Source")
_FORM: Final = re.compile(
    r"([^\n]+\.)\n\n" + r"\n".join(rf"{label}: (.+)" for label in _LABELS), re.DOTALL
)

# What a hook leaves behind grows from left to right, and so does the order in which
# checks run.
_DISRUPTION: Final = (
    frozenset({Hook.ROTATE, Hook.BACK}),
    frozenset({Hook.BREAK, Hook.HEAL}),
    frozenset({Hook.STOP, Hook.START, Hook.KILL}),
)


class DocstringRefused(ValueError):
    """A check's docstring has not the form that ``--explain`` prints."""


@frozen
class Words:
    """A check's docstring, taken apart.

    Attributes:
        title: What must hold, in one line.
        sends: What is sent.
        expects: What must come.
        why: Why kube-apiserver, or its operator, cares.
        source: Where that stands; the tags are explained in ``sources``.
    """

    title: str
    sends: str
    expects: str
    why: str
    source: str

    @classmethod
    def parse(cls, docstring: str) -> Words:
        """Take a docstring apart: a title, then Sends, Expects, Why and Source.

        Raises:
            DocstringRefused: It has another form.
        """
        found = _FORM.fullmatch(inspect.cleandoc(docstring))
        if found is None:
            raise DocstringRefused(
                "a check's docstring is a title of one line that ends with a full "
                f"stop, an empty line, and then {', '.join(_LABELS)}, in this order"
            )
        return cls(*(" ".join(part.split()) for part in found.groups()))


@frozen
class Check:
    """One check.

    Attributes:
        id: As in section 12 of the contract, such as ``D04``.
        severity: MUST or SHOULD.
        words: What ``--explain`` prints.
        run: The function. It returns, or raises Failed, NotRun or CallFailed.
        needs: The hooks without which it is not run.
        slow: Too long for ``--quick``.
        last: Sums up the whole run, so that it comes at the end.
        limit_s: Seconds after which it is ended and has failed.
    """

    id: str
    severity: Severity
    words: Words
    run: Run
    needs: tuple[Hook, ...] = ()
    slow: bool = False
    last: bool = False
    limit_s: float = 60.0

    @property
    def group(self) -> str:
        """The letter of its group."""
        return self.id[0]

    @property
    def disruption(self) -> int:
        """How much it disturbs the plugin, or what that stands on; 0: nothing."""
        needs = set(self.needs)
        return max(
            (n for n, hooks in enumerate(_DISRUPTION, start=1) if hooks & needs),
            default=0,
        )

    @property
    def order(self) -> tuple[bool, int, int, str]:
        """Where it stands in a run: what disturbs more comes later."""
        group = _GROUPS_IN_ORDER.index(self.group)
        return self.last, self.disruption, group, self.id


class Register:
    """The checks that have been defined, by id."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, check: Check) -> None:
        """Take *check* in.

        Raises:
            ValueError: Its id is malformed or taken.
        """
        if not _ID.fullmatch(check.id):
            raise ValueError(f"{check.id!r} is no id of a check")
        if check.id in self._checks:
            raise ValueError(f"{check.id} is defined twice")
        self._checks[check.id] = check

    def checks(self) -> tuple[Check, ...]:
        """Return all checks in the order in which they run."""
        return tuple(sorted(self._checks.values(), key=lambda one: one.order))


REGISTER: Final = Register()


def check(  # noqa: PLR0913 - what stands on a check's door
    id: str,  # noqa: A002 - the word of section 12
    severity: Severity,
    *,
    needs: tuple[Hook, ...] = (),
    slow: bool = False,
    last: bool = False,
    limit_s: float = 60.0,
    register: Register = REGISTER,
) -> Callable[[Run], Run]:
    """Register the decorated function as a check; see ``Check`` for the arguments.

    Raises:
        DocstringRefused: Its docstring has not the form of ``Words``.
        ValueError: The id is malformed or taken.
    """

    def registered(run: Run) -> Run:
        try:
            words = Words.parse(run.__doc__ or "")
        except DocstringRefused as refusal:
            raise DocstringRefused(f"{id}: {refusal}") from None
        register.add(Check(id, severity, words, run, needs, slow, last, limit_s))
        return run

    return registered

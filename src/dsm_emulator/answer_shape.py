"""How answers look on the wire, where DSM's versions and deployments may differ.

None of these may matter to a client: it ignores fields that it doesn't know, takes
absent and null for the same, and finds an error's text in any form (sections 0 and 5).
"""

from enum import StrEnum
from typing import Any

import attrs

from dsm_emulator.http_message import Answer


# What DSM has for other objects, and for this one under other circumstances.
_OPTIONAL_FIELDS = (
    "activation_date",
    "compromise_date",
    "deactivation_date",
    "deletion_date",
    "description",
    "destruction_date",
    "aes",
    "elliptic_curve",
    "external",
    "kcv",
    "links",
    "pub_key",
    "revocation_reason",
    "rotation_policy",
    "rsa",
    "scheduled_rotation",
    "transient_key",
    "value",
)
_UNKNOWN = {"x_future_field": {"ignored": [1, "two", None]}}


class ErrorForm(StrEnum):
    """The forms in which clients have met errors; DSM's own is text."""

    TEXT = "text"
    JSON = "json"
    JSON_STRING = "json-string"
    EMPTY = "empty"


@attrs.define
class Shape:
    """The switches.

    Attributes:
        unknown_fields: Whether each JSON object carries a field that nobody knows.
        nulls: Whether absent optional fields of a key are null instead of left out.
        kcv: Whether keys carry their check values unasked.
        effective_key_policy: Whether keys say what the caller may do; optional in DSM,
            and whether apps get it is assumed (section 2.2).
        omitted: Fields of a key that are left out, although there.
        error_form: The form of a refusal.
    """

    unknown_fields: bool = False
    nulls: bool = False
    kcv: bool = False
    effective_key_policy: bool = True
    omitted: frozenset[str] = frozenset()
    error_form: ErrorForm = ErrorForm.TEXT

    def of_key(self, shown: dict[str, Any]) -> dict[str, Any]:
        """Return a key's fields in this shape."""
        if self.nulls:
            shown = dict.fromkeys(_OPTIONAL_FIELDS) | shown
        if self.omitted:
            shown = {k: v for k, v in shown.items() if k not in self.omitted}
        return shown

    def of_answer(self, answer: Answer) -> Answer:
        """Return an answer in this shape."""
        if answer.text is not None:
            return self._of_refusal(answer, answer.text)
        if not self.unknown_fields:
            return answer
        shown = answer.json
        if isinstance(shown, dict):
            return attrs.evolve(answer, json=shown | _UNKNOWN)
        if isinstance(shown, list):
            items = [i | _UNKNOWN if isinstance(i, dict) else i for i in shown]
            return attrs.evolve(answer, json=items)
        return answer

    def _of_refusal(self, answer: Answer, text: str) -> Answer:
        if self.error_form is ErrorForm.JSON:
            return attrs.evolve(answer, text=None, json={"message": text})
        if self.error_form is ErrorForm.JSON_STRING:
            return attrs.evolve(answer, text=None, json=text)
        if self.error_form is ErrorForm.EMPTY:
            return attrs.evolve(answer, text=None)
        return answer

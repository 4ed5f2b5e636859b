"""Writes the reports for which a file was named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.html_report import as_html
from kms_conformance.json_report import as_json
from kms_conformance.junit_report import as_junit


if TYPE_CHECKING:
    from kms_conformance.options import Given
    from kms_conformance.report import Report


_FORMS: Final = {"--json": as_json, "--junit": as_junit, "--html": as_html}


def write_reports(report: Report, given: Given) -> None:
    """Write *report* in each form that has a file.

    Raises:
        OSError: A file can't be written.
    """
    for flag, form in _FORMS.items():
        path = given(flag)
        if path is not None:
            path.write_text(form(report), encoding="utf-8")

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


def claim_reports(given: Given) -> None:
    """Empty each file that is to be written: before the run, which may take long.

    What an earlier run left there would pass for the report of one that was stopped.

    Raises:
        OSError: A file can't be written.
    """
    for flag in _FORMS:
        path = given(flag)
        if path is not None:
            path.write_bytes(b"")


def write_reports(report: Report, given: Given) -> None:
    """Write *report* in each form that has a file.

    Raises:
        OSError: A file can't be written; the others are.
    """
    failed: list[OSError] = []
    for flag, form in _FORMS.items():
        path = given(flag)
        if path is not None:
            try:
                path.write_text(form(report), encoding="utf-8")
            except OSError as failure:
                failed.append(failure)
    if failed:
        raise failed[0]

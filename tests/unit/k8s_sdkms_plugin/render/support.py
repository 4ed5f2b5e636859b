"""Runs ``render`` as a person does, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from attrs import frozen

from k8s_sdkms_plugin.render import command


if TYPE_CHECKING:
    import pytest


ROOT = Path(__file__).parents[4]
SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@frozen
class Run:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def yaml(self) -> Any:
        assert self.code == 0, self.err
        return yaml.safe_load(self.out)


@frozen
class Render:
    """The command, without touching this process' own limits."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> Run:
        code = command.main([str(word) for word in words])
        said = self.capsys.readouterr()
        return Run(code, said.out, said.err)

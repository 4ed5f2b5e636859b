"""RenderRefused: why there is no file."""

from __future__ import annotations


class RenderRefused(Exception):
    """The settings, or what was read, give no file that can be used.

    Args:
        problems: Each one line: what is wrong, and what would be right.

    Attributes:
        problems: The same.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))

"""Reads the documents. Imports nothing of ours: they must speak for themselves."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen


ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
FORMATS = ROOT / "docs" / "formats.md"

_MARK = re.compile(r"<!-- (test|vector): (.+) -->")
_FENCE = re.compile(r"```(\w*)")
_HEADING = re.compile(r"#+ (.+)")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


@frozen
class Block:
    """A fenced block.

    Attributes:
        mark: What the HTML comment right before it says; empty without one.
        language: What stands behind the fence.
        text: Its lines, each with its end.
        line: Where it begins, for failures.
    """

    mark: str
    language: str
    text: str
    line: int


@frozen
class Page:
    """A Markdown file, taken apart.

    Attributes:
        path: Where it is.
        blocks: Its fenced blocks.
        prose: All else, line by line.
    """

    path: Path
    blocks: tuple[Block, ...]
    prose: str

    @classmethod
    def read(cls, path: Path) -> Page:
        blocks: list[Block] = []
        prose: list[str] = []
        inside: list[str] | None = None
        mark = language = ""
        began = 0
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if inside is not None:
                if line == "```":
                    text = "".join(f"{item}\n" for item in inside)
                    blocks.append(Block(mark, language, text, began))
                    inside, mark = None, ""
                else:
                    inside.append(line)
            elif fence := _FENCE.fullmatch(line):
                inside, language, began = [], fence[1], number
            else:
                found = _MARK.fullmatch(line)
                mark = found[2] if found else ""
                prose.append(line)
        assert inside is None, f"{path}:{began}: the block does not end"
        return cls(path, tuple(blocks), "\n".join(prose))

    def block(self, mark: str) -> Block:
        """Return the one block with this mark."""
        (found,) = (block for block in self.blocks if block.mark == mark)
        return found

    def after(self, block: Block) -> Block | None:
        """Return the block that follows *block*."""
        index = self.blocks.index(block) + 1
        return self.blocks[index] if index < len(self.blocks) else None

    def links(self) -> list[str]:
        """Return the targets of its links."""
        return _LINK.findall(self.prose)

    def anchors(self) -> set[str]:
        """Return the anchors that GitHub makes of its headings."""
        headings = map(_HEADING.fullmatch, self.prose.splitlines())
        return {_slug(heading[1]) for heading in headings if heading}


def pages() -> list[Page]:
    """Return every document."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [Page.read(path) for path in sorted(paths)]


def vectors(mark: str) -> list[dict[str, str]]:
    """Return the vectors of docs/formats.md under *mark*; blank lines part them."""
    found: list[dict[str, str]] = []
    for part in Page.read(FORMATS).block(mark).text.split("\n\n"):
        values: dict[str, str] = {}
        name = ""
        for line in part.splitlines():
            if line.startswith("    "):
                values[name] += line.strip()
            else:
                name, _, value = (word.strip() for word in line.partition("="))
                assert name not in values, f"{name} stands twice"
                values[name] = value
        found.append(values)
    return found


def _slug(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lower())
    return words.replace(" ", "-")

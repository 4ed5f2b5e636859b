"""What holds for every document: links, codes, names, and nothing of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
from tests.unit.docs.support import README, ROOT, Page, pages

from k8s_sdkms_plugin.config.model import PluginConfig
from kms_core.errors import error_classes
from kms_core.key_rules import finding_codes


PAGES = pages()
CODE = re.compile(r"`([A-Z]+(?:-[A-Z]+)+|INTERNAL)`")
SETTING = re.compile(r'"([a-z_]+)": ')
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:work|root|home/\w+)/")
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "proxy.golang.org"}
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def tracked() -> list[Path]:
    # Whoever runs the tests need not be who cloned.
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (ROOT / name for name in done.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def hosts_of_this_machine() -> set[str]:
    """Return the hosts of package registries and proxies that this machine uses."""
    texts = [
        value
        for name, value in os.environ.items()
        if re.match("PIP_|UV_|GOPROXY|NPM_|.*_PROXY$", name, re.IGNORECASE)
    ]
    files = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
    paths = (Path(name).expanduser() for name in files)
    texts += [path.read_text() for path in paths if path.is_file()]
    urls = re.findall(r"https?://[^\s,|'\"]+", "\n".join(texts))
    return {urlsplit(url).hostname or "" for url in urls} - {"", *PUBLIC_HOSTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_links_lead_somewhere(page: Page) -> None:
    lost = []
    for target in page.links():
        if urlsplit(target).scheme:
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        anchors = Page.read(path).anchors() if anchor and path.exists() else set()
        if not path.exists() or (anchor and anchor not in anchors):
            lost.append(target)
    assert not lost


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [README]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.is_dir():
            waiting += path.glob("*.md")
        elif path.suffix == ".md":
            names = (target.partition("#")[0] for target in Page.read(path).links())
            found = ((path.parent / name).resolve() for name in names if name)
            waiting += (other for other in found if other.exists())
    assert {page.path for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_codes_exist(page: Page) -> None:
    known = {cls.code for cls in error_classes()} | set(finding_codes())
    assert set(CODE.findall(page.prose)) <= known


def test_every_code_is_described() -> None:
    described = CODE.findall((ROOT / "docs" / "errors.md").read_text())
    assert {cls.code for cls in error_classes()} <= set(described)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_settings_exist(page: Page) -> None:
    known = {attribute.name for attribute in attrs.fields(PluginConfig)}
    named = set(SETTING.findall("".join(re.findall(r"`[^`]+`", page.prose))))
    assert named <= known


def test_generated_documents_are_up_to_date() -> None:
    command = [sys.executable, "scripts/generate_docs.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_targets_are_those_of_the_makefile() -> None:
    (phony,) = re.findall(r"(?m)^\.PHONY: (.+)$", (ROOT / "Makefile").read_text())
    named = re.findall(r"\| `make (\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text())
    assert sorted(named) == sorted(phony.split())


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_has_its_form(path: Path) -> None:
    text = path.read_text()
    number = DECISIONS.index(path) + 1
    assert path.name.startswith(f"{number:04}-")
    assert text.startswith(f"# {number}. ")
    headings = re.findall(r"(?m)^## (.+)$", text)
    assert headings == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 45


def test_lock_files_hold_no_address() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in path.read_text(), path


def test_tracked_files_tell_nothing_of_this_machine() -> None:
    # A root of one name, such as /src, may well be a path in a container.
    root = [f"{ROOT}/"] if len(ROOT.parts) > 2 else []
    strings = [*root, *hosts_of_this_machine()]
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        words = [*MACHINE_PATH.findall(text), *(s for s in strings if s in text)]
        if words:
            found.append(f"{path.relative_to(ROOT)}: {words}")
    assert not found

from __future__ import annotations

import gc
import re
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kms_core import errors
from kms_core.errors import (
    MAX_TEXT_BYTES,
    CredentialRefused,
    KeyDisabled,
    KmsError,
    Meaning,
    RpcCode,
    error_classes,
    one_line,
)


LEAVES = error_classes()
GROUPS = (
    errors.KmsError,
    errors.CallError,
    errors.ProviderError,
    errors.OutageError,
    errors.RefusalError,
    errors.DenialError,
)

AWKWARD = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Zs"]),
        st.sampled_from("\n\r\t\x00\x1b\x85\u2028\u2029\u202e\ud800\udfff\U0001f511é"),
    ),
    max_size=700,
)


def tree_in_docstring() -> list[tuple[int, str, str]]:
    """Return (depth, class name, code or empty) for each line of the tree."""
    found = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([ │├└─]*)(\w+)(?: +(.+))?$", line)
        if match:
            indent, name, rest = match.groups()
            code = re.fullmatch(r"[A-Z][A-Z-]+", rest or "")
            found.append((len(indent) // 4, name, code.group() if code else ""))
    return found


def tree_of_classes() -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []

    def visit(cls: type[KmsError], depth: int) -> None:
        found.append((depth, cls.__name__, vars(cls).get("code", "")))
        for child in cls.__subclasses__():
            visit(child, depth + 1)

    visit(KmsError, 0)
    return found


def test_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert len(tree_in_docstring()) > 30
    assert tree_in_docstring() == tree_of_classes()


def test_every_class_is_either_a_group_without_a_code_or_a_leaf_with_one() -> None:
    assert set(GROUPS).isdisjoint(LEAVES)
    assert len(GROUPS) + len(LEAVES) == len(tree_of_classes())
    assert not any("code" in vars(group) for group in GROUPS)
    assert not any(leaf.__subclasses__() for leaf in LEAVES)


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_says_all_that_the_operator_needs(leaf: type[KmsError]) -> None:
    assert re.fullmatch(r"[A-Z]+(-[A-Z]+)*", leaf.code)
    assert isinstance(leaf.rpc_code, RpcCode)
    assert isinstance(leaf.meaning, Meaning)
    assert isinstance(leaf.retryable, bool)
    assert leaf.hint == one_line(leaf.hint)
    assert 10 < len(leaf.hint) < 200
    assert leaf.__doc__


def test_codes_are_unique() -> None:
    codes = [leaf.code for leaf in LEAVES]
    assert len(set(codes)) == len(codes)


def test_a_subclass_made_elsewhere_does_not_take_its_parent_out_of_the_list() -> None:
    made = type("Elsewhere", (KeyDisabled,), {})
    assert KeyDisabled in error_classes()
    assert made not in error_classes()
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("group", "meaning"),
    [
        (errors.CallError, Meaning.CALL),
        (errors.OutageError, Meaning.OUTAGE),
        (errors.RefusalError, Meaning.REFUSED),
        (errors.DenialError, Meaning.DENIED),
    ],
)
def test_meaning_follows_the_group(group: type[KmsError], meaning: Meaning) -> None:
    assert {leaf.meaning for leaf in LEAVES if issubclass(leaf, group)} == {meaning}


@pytest.mark.parametrize("leaf", LEAVES)
def test_text_names_code_cause_and_hint(leaf: type[KmsError]) -> None:
    error = leaf("what happened")
    assert error.text() == f"{leaf.code}: what happened; {leaf.hint}"
    assert str(error) == error.text()
    assert error.cause == "what happened"


@settings(deadline=None)
@given(cause=AWKWARD, leaf=st.sampled_from(LEAVES))
def test_text_is_one_short_printable_line_for_any_cause(
    cause: str, leaf: type[KmsError]
) -> None:
    text = leaf(cause).text()
    assert len(text.encode("utf-8")) <= MAX_TEXT_BYTES
    assert text.splitlines() == [text]
    assert text.replace("\u00a0", " ").isprintable()
    assert text.startswith(leaf.code + ": ")


@settings(deadline=None)
@given(text=AWKWARD, limit=st.integers(min_value=3, max_value=600))
def test_one_line_keeps_to_its_limit_and_changes_nothing_twice(
    text: str, limit: int
) -> None:
    once = one_line(text, limit)
    assert len(once.encode("utf-8")) <= limit
    assert one_line(once, limit).encode() == " ".join(once.split()).encode()


@pytest.mark.parametrize("character", ["a", "é", "€", "\U0001f511"])
def test_a_cut_falls_between_characters_and_is_marked(character: str) -> None:
    cut = one_line(character * 600, 512)
    assert cut.endswith("...")
    assert set(cut[:-3]) == {character}
    assert 512 - len(character.encode()) < len(cut.encode()) <= 512


def test_a_text_of_exactly_the_limit_is_not_cut() -> None:
    assert one_line("é" * 256, 512) == "é" * 256


def test_copy_without_traceback_is_equal_and_holds_no_frame() -> None:
    def fail() -> None:
        try:
            int("the cause of it")
        except ValueError as error:
            raise CredentialRefused("refused", remembered=True) from error

    with pytest.raises(CredentialRefused) as caught:
        fail()
    kept = caught.value.without_traceback()
    assert type(kept) is CredentialRefused
    assert kept.text() == caught.value.text()
    assert kept.remembered
    assert kept.__traceback__ is None
    assert kept.__cause__ is None
    assert kept.__context__ is None

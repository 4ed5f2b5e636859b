"""``render encryption-config --merge``: nothing lost, ours first, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.k8s_sdkms_plugin.render.support import SECRET, Render

from k8s_sdkms_plugin.render.encryption import (
    EncryptionConfiguration,
    Identity,
    Key,
    Keyed,
    Kms,
    Rule,
    fresh,
    to_yaml,
)
from k8s_sdkms_plugin.render.merge import left_to_earlier_rules, merged, way_back
from k8s_sdkms_plugin.render.reading import parse
from k8s_sdkms_plugin.render.refusal import RenderRefused


if TYPE_CHECKING:
    from pathlib import Path


SOCKET = "unix:///var/run/kms-plugin/socket.sock"
OURS = Kms("dsm", SOCKET)
AESCBC = Keyed("aescbc", (Key("key1", SECRET), Key("key2", "a" * 43 + "=")))
SECRETBOX = Keyed("secretbox", (Key("on", SECRET),))
OTHER = Kms("vault", "unix:///run/vault.sock", timeout="5s")
IDENTITY = Identity()


def rule(*providers: Any, resources: tuple[str, ...] = ("secrets",)) -> Rule:
    return Rule(resources, providers)


def merge(
    *rules: Rule, name: str | None = None, of: tuple[str, ...] = ("secrets",)
) -> tuple[Rule, ...]:
    return merged(EncryptionConfiguration(rules), SOCKET, name, of).rules


def test_kms_comes_first_and_everything_else_stays_in_order() -> None:
    before = rule(AESCBC, SECRETBOX, OTHER, IDENTITY)
    assert merge(before) == (rule(OURS, AESCBC, SECRETBOX, OTHER, IDENTITY),)


def test_default_of_k3s_and_rke2_keeps_its_key() -> None:
    theirs = rule(Keyed("aescbc", (Key("aescbckey", SECRET),)), IDENTITY)
    assert merge(theirs) == (rule(OURS, *theirs.providers),)


def test_rules_of_other_resources_stay_as_they_are() -> None:
    events = rule(IDENTITY, resources=("events", "events.example.com"))
    secrets = rule(AESCBC, IDENTITY, resources=("secrets", "configmaps", "x.apps"))
    rest = rule(SECRETBOX, resources=("*.*",))
    assert merge(events, secrets, rest) == (
        events,
        rule(OURS, AESCBC, IDENTITY, resources=secrets.resources),
        rest,
    )


@pytest.mark.parametrize("wildcard", ["*.", "*.*"])
def test_wildcard_that_covers_the_resource_decides(wildcard: str) -> None:
    apps = rule(SECRETBOX, resources=("*.apps",))
    wide = rule(AESCBC, resources=(wildcard,))
    assert merge(apps, wide) == (apps, rule(OURS, AESCBC, resources=(wildcard,)))


def test_resource_that_no_rule_covers_gets_one_behind_the_others() -> None:
    first = rule(AESCBC, resources=("configmaps",))
    assert merge(first) == (first, rule(OURS, IDENTITY))


def test_each_further_rule_gets_a_name_of_its_own() -> None:
    made = merge(
        rule(AESCBC),
        rule(AESCBC, resources=("configmaps",)),
        of=("secrets", "configmaps", "pods.example.com"),
    )
    names = [r.providers[0] for r in made]
    assert names == [Kms(n, SOCKET) for n in ("dsm", "dsm-2", "dsm-3")]


def test_provider_at_our_socket_keeps_its_name_and_its_settings() -> None:
    # As the Go plugin's guide had it, with the path that /var/run is a link to.
    go_plugin = Kms("fortanix", "unix:///run/kms-plugin/socket.sock", timeout="10s")
    before = rule(AESCBC, go_plugin, IDENTITY)
    assert merge(before) == (rule(go_plugin, AESCBC, IDENTITY),)
    assert merge(before, name="fortanix") == merge(before)
    assert merge(*merge(before)) == merge(before)


def test_rename_is_refused() -> None:
    with pytest.raises(RenderRefused, match="k8s:enc:kms:v2:dsm:"):
        merge(rule(OURS), name="other")


def test_name_of_a_stranger_is_refused() -> None:
    stranger = Kms("dsm", "unix:///run/other.sock")
    with pytest.raises(RenderRefused, match="at another socket"):
        merge(rule(stranger))
    assert merge(rule(stranger), name="mine")[0].providers[0] == Kms("mine", SOCKET)


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (("*.*",), ("secrets", "events", "deployments.apps", "*.batch")),
        (("*.*", "secrets", "*.batch"), ("events", "deployments.apps")),
        (("*.",), ("secrets", "events")),
        (("*.apps",), ("deployments.apps",)),
        (("secrets", "pods"), ()),
    ],
)
def test_what_earlier_rules_keep_from_a_wildcard_is_known(
    asked: tuple[str, ...], left: tuple[str, ...]
) -> None:
    before = (
        rule(AESCBC),
        rule(IDENTITY, resources=("events", "deployments.apps")),
        rule(OURS, AESCBC, resources=("configmaps",)),
        rule(SECRETBOX, resources=("*.batch",)),
    )
    made = EncryptionConfiguration(merge(*before, of=asked))
    assert left_to_earlier_rules(made, SOCKET, asked) == left


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (("secrets", "secrets"), ("secrets",)),
        (("*.*", "secrets", "*.batch"), ("*.*",)),
        (("secrets", "*.", "jobs.batch"), ("*.", "jobs.batch")),
        (("jobs.batch", "*.batch"), ("*.batch",)),
    ],
)
def test_new_rule_names_nothing_twice(
    asked: tuple[str, ...], written: tuple[str, ...]
) -> None:
    # kube-apiserver refuses it: "overlapping resources" (encryptionconfig/config.go).
    for rules in (fresh(OURS, asked).rules, merge(of=asked)):
        assert [one.resources for one in rules] == [written]


def test_a_wildcard_that_has_a_rule_already_loses_nothing_to_it() -> None:
    wide = rule(AESCBC, resources=("*.*",))
    made = EncryptionConfiguration(merge(wide, of=("*.*",)))
    assert made.rules[0].providers[0] == OURS
    assert left_to_earlier_rules(made, SOCKET, ("*.*",)) == ()


@pytest.mark.parametrize("kind", ["encryption-config", "rke1"])
def test_what_a_wildcard_does_not_reach_is_said(
    kind: str, render: Render, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    current.write_text(GOOD)

    made = render(kind, "--merge", current, "--resource", "*.*")
    assert made.code == 0
    assert made.err == (
        "warning: --resource: earlier rules decide on 'secrets'; name with --resource "
        "as well what of it is to be encrypted by DSM\n"
    )

    both = ("--resource", "*.*", "--resource", "secrets")
    assert render(kind, "--merge", current, *both).err == ""


@pytest.mark.parametrize("version", ["v1", None])
def test_kms_v1_at_our_socket_is_refused(version: str | None) -> None:
    with pytest.raises(RenderRefused, match="KMS v1"):
        merge(rule(Kms("old", SOCKET, version, cachesize=100)))
    elsewhere = Kms("old", "unix:///run/old.sock", version, None, 100)
    assert merge(rule(elsewhere)) == (rule(OURS, elsewhere),)


@pytest.mark.parametrize("kind", ["aescbc", "identity", "kms:vault"])
def test_way_back_puts_the_other_first_and_keeps_ours(kind: str) -> None:
    wanted = {"aescbc": AESCBC, "identity": IDENTITY, "kms:vault": OTHER}[kind]
    before = (OURS, AESCBC, OTHER, IDENTITY)
    untouched = rule(SECRETBOX, resources=("configmaps",))

    made = way_back(EncryptionConfiguration((rule(*before), untouched)), SOCKET, kind)

    others = tuple(p for p in before if p != wanted)
    assert made.rules == (rule(wanted, *others), untouched)


def test_way_back_to_identity_needs_none_in_the_file() -> None:
    made = way_back(EncryptionConfiguration((rule(OURS),)), SOCKET, "identity")
    assert made.rules == (rule(IDENTITY, OURS),)


@pytest.mark.parametrize(
    ("providers", "kind", "says"),
    [
        ((OURS, IDENTITY), "aescbc", "add it with its keys"),
        ((OURS,), "kms:dsm", "no kms:dsm"),
        ((AESCBC,), "aescbc", "no kms provider"),
    ],
)
def test_way_back_that_leads_nowhere_is_refused(
    providers: tuple[Any, ...], kind: str, says: str
) -> None:
    with pytest.raises(RenderRefused, match=says):
        way_back(EncryptionConfiguration((rule(*providers),)), SOCKET, kind)


TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"),
    min_size=1,
).filter(lambda text: not any(0x7F <= ord(c) < 0xA0 for c in text))
KEYED = st.builds(
    Keyed,
    st.sampled_from(["aescbc", "aesgcm", "secretbox"]),
    st.lists(st.builds(Key, TEXTS, TEXTS), min_size=1, max_size=3).map(tuple),
)
RULES = st.builds(
    Rule,
    st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    st.lists(st.one_of(KEYED, st.just(IDENTITY)), min_size=1, max_size=3).map(tuple),
)


@given(st.lists(RULES, min_size=1, max_size=3).map(tuple))
def test_whatever_is_written_reads_back_the_same(rules: tuple[Rule, ...]) -> None:
    configuration = EncryptionConfiguration(rules)
    text = to_yaml(configuration)
    assert parse(text.encode()) == configuration
    (rule_of_yaml, *_) = yaml.safe_load(text)["resources"]
    assert tuple(rule_of_yaml["resources"]) == rules[0].resources


def test_name_outside_of_the_basic_plane_is_kept() -> None:
    before = EncryptionConfiguration(
        (rule(Keyed("aescbc", (Key("k\U0001f511", SECRET),))),)
    )
    text = to_yaml(before)
    assert text.isascii()
    assert parse(text.encode()) == before


GOOD = f"""\
kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: {SECRET}
      - identity: {{}}
"""


def test_file_and_its_keys_go_through(render: Render, tmp_path: Path) -> None:
    current, output = tmp_path / "current", tmp_path / "output"
    current.write_text(f"# a comment\n{GOOD}")

    made = render("encryption-config", "--merge", current, "--output", output)

    assert (made.code, made.out, made.err) == (0, "", "")
    assert output.stat().st_mode & 0o777 == 0o600
    (written,) = yaml.safe_load(output.read_text())["resources"]
    (before,) = yaml.safe_load(GOOD)["resources"]
    assert written["providers"][1:] == before["providers"]
    back = render("encryption-config", "--merge", output, "--back-to", "aescbc").yaml[
        "resources"
    ][0]["providers"]
    assert [next(iter(provider)) for provider in back] == ["aescbc", "kms", "identity"]
    assert SECRET in render("rke1", "--merge", current).out


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("resources: [secrets]", "resources: []", "something in it"),
        ("resources: [secrets]", "resource: [secrets]", "resource is not known"),
        ("resources: [secrets]", "resources: [on]", "quotes"),
        ("name: key1", f"{SECRET}: key1", "a field is not known"),
        ("name: key1", "name: 1", "quotes"),
        ("name: key1", "secret: x", "repeated"),
        ("name: key1", "? [a]\n              : x", "repeated, or whose name"),
        ("name: key1", "name: &a key1\n              x: *a", "alias"),
        ("name: key1", "name: [", "not valid YAML (line"),
        ("name: key1", "name: !!python/object:os.x 1", "not valid YAML"),
        ("identity: {}", "identity: ", "map of fields"),
        ("identity: {}", "identity: {x: 1}", "x is not known"),
        ("identity: {}", "{identity: {}, aesgcm: {keys: []}}", "exactly one"),
        ("identity: {}", "kms: {name: a, apiVersion: v3}", "neither v1 nor v2"),
        ("identity: {}", "kms: {name: a, cachesize: many}", "is a number"),
        ("identity: {}", "kms: {name: a}", "endpoint"),
        ("identity: {}", "rot13: {}", "rot13 is not known"),
        ("apiserver.config.k8s.io/v1", "v1", "is no EncryptionConfiguration"),
        ("kind: Enc", "kind: Dec", "is no EncryptionConfiguration"),
        (GOOD, "", "map of fields"),
        (GOOD, "[" * 5000, "not valid YAML"),
        (GOOD, "a: b\n---\nc: d", "not valid YAML"),
        (GOOD, "\x00", "not valid YAML"),
        (GOOD, " " * 1_000_001, "too large"),
    ],
)
def test_what_can_not_be_kept_is_refused_without_a_word_of_the_keys(
    old: str, new: str, says: str, render: Render, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    assert old in GOOD
    current.write_text(GOOD.replace(old, new))

    made = render("encryption-config", "--merge", current)

    assert (made.code, made.out) == (2, "")
    assert says in made.err
    assert SECRET not in made.err
    assert len(made.err.splitlines()) == 1


def test_repeated_name_of_a_kms_provider_is_refused() -> None:
    twice = EncryptionConfiguration((rule(OURS), rule(OURS, resources=("x",))))
    with pytest.raises(RenderRefused, match="have one name"):
        parse(to_yaml(twice).encode())


def test_file_that_is_not_there_is_refused(render: Render) -> None:
    made = render("encryption-config", "--merge", "/nowhere")
    assert made.code == 2
    assert "can't be read" in made.err


def test_keys_show_in_no_repr() -> None:
    assert SECRET not in repr(EncryptionConfiguration((rule(AESCBC),)))

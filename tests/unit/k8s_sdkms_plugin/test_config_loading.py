from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.k8s_sdkms_plugin.support import (
    ACCEPTED,
    BASE,
    GO_PLUGIN,
    HASH,
    KID,
    REFUSED,
    SECRET,
    changed,
    error_fields,
    loaded,
    written,
)

from adapters_dsm.settings import Secret
from k8s_sdkms_plugin.config.findings import Severity
from k8s_sdkms_plugin.config.loading import MAX_FILE_BYTES, edit_distance, load
from k8s_sdkms_plugin.config.model import PluginConfig, WriteFormat
from kms_core.service import ApiVersion


if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s_sdkms_plugin.config.loading import LoadedConfig


PREFIX = "K8S_SDKMS_PLUGIN_"
SLASHED = "https://sdkms.fortanix.com/"
NAMES = [*PluginConfig.__annotations__]


def only_finding(result: LoadedConfig) -> str:
    """Return the text of the one finding, which is an error about the file."""
    (finding,) = result.findings
    assert finding.severity is Severity.ERROR
    assert finding.field == "file"
    assert finding.what
    assert finding.remedy
    assert result.config is None
    assert result.go_plugin_key_id == ""
    return str(finding)


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Do without root's right to read everything, where the tests have it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# The file itself.


def test_missing_file_is_one_finding_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    text = only_finding(load(path, {}))
    assert str(path) in text
    assert "No such file" in text


def test_file_that_we_may_not_read_is_a_finding(tmp_path: Path) -> None:
    path = written(tmp_path, BASE, mode=0o000)
    with without_root():
        assert "Permission denied" in only_finding(load(path, {}))


def test_directory_is_a_finding(tmp_path: Path) -> None:
    assert "Is a directory" in only_finding(load(tmp_path, {}))


def test_pipe_without_a_writer_is_a_finding_and_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert "not a regular file" in only_finding(load(path, {}))


def test_device_is_a_finding() -> None:
    assert "not a regular file" in only_finding(load(Path("/dev/zero"), {}))


def test_path_that_no_file_can_have_is_a_finding() -> None:
    assert "can't be read" in only_finding(load(Path("a\0b"), {}))


def test_path_with_line_breaks_stays_on_one_line() -> None:
    assert "\n" not in only_finding(load(Path("a\nb\x1b"), {}))


@pytest.mark.parametrize(
    "content", ["", "{", '{"a": 1,}', "api_key = x", b"\xff\xfe\xfa", "[" * 100_000]
)
def test_what_is_not_json_is_a_finding_without_quotes(
    tmp_path: Path, content: str | bytes
) -> None:
    text = only_finding(loaded(tmp_path, content))
    assert "is not valid JSON" in text
    assert "api_key = x" not in text


def test_place_of_a_syntax_error_is_told(tmp_path: Path) -> None:
    content = json.dumps(BASE, indent=1)[:-1] + ",}"
    assert "(line 7, column" in only_finding(loaded(tmp_path, content))


@pytest.mark.parametrize("content", ["[]", "null", '"text"', "5", '[{"a": 1}]'])
def test_other_json_than_an_object_is_a_finding(tmp_path: Path, content: str) -> None:
    assert "holds no JSON object" in only_finding(loaded(tmp_path, content))


def test_huge_file_is_a_finding(tmp_path: Path) -> None:
    content = json.dumps(BASE) + " " * MAX_FILE_BYTES
    assert "too large" in only_finding(loaded(tmp_path, content))


def test_deep_nesting_in_a_setting_is_a_finding_or_unreadable(tmp_path: Path) -> None:
    deep = '{"ca_file": ' + "[" * 500 + "]" * 500 + "}"
    assert "ca_file" in error_fields(loaded(tmp_path, deep))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_file_that_others_may_read_is_a_warning(tmp_path: Path, mode: int) -> None:
    result = load(written(tmp_path, BASE, mode=mode), {})
    assert result.config is not None
    (finding,) = result.findings
    assert finding.severity is Severity.WARNING
    assert f"{mode:04o}" in finding.what
    assert finding.remedy == f"chmod 0600 {result.path}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_private_file_gives_no_finding(tmp_path: Path, mode: int) -> None:
    assert load(written(tmp_path, BASE, mode=mode), {}).findings == ()


# Single settings.


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
def test_wrong_value_is_an_error_about_its_field(
    tmp_path: Path, name: str, value: Any
) -> None:
    result = loaded(tmp_path, changed(name, value))
    assert result.config is None
    assert set(error_fields(result)) == {name}
    for finding in result.errors:
        assert finding.what
        assert finding.remedy


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=str)
def test_right_value_loads(tmp_path: Path, name: str, value: Any) -> None:
    result = loaded(tmp_path, changed(name, value))
    assert result.errors == ()
    assert result.config is not None


@pytest.mark.parametrize("value", [f"{SECRET} x", f"{SECRET}\n", [SECRET], {SECRET: 1}])
def test_refused_secret_is_not_quoted(tmp_path: Path, value: Any) -> None:
    result = loaded(tmp_path, changed("api_key", value))
    assert error_fields(result) == ["api_key"]
    assert SECRET not in repr(result)


def test_secret_in_a_wrong_field_is_not_quoted(tmp_path: Path) -> None:
    content = BASE | dict.fromkeys(
        ("sdkms_endpoint", "socket_mode", "log_level", "accept_key_ids", "coast_for"),
        SECRET,
    )
    result = loaded(tmp_path, content)
    assert len(result.errors) == 5
    assert SECRET not in repr(result.findings)


def test_api_key_with_padding_is_kept_as_it_is(tmp_path: Path) -> None:
    config = loaded(tmp_path, changed("api_key", "QUJDRA==")).config
    assert config is not None
    assert config.api_key == Secret("QUJDRA==")
    assert "QUJDRA" not in repr(config)


def test_http_on_loopback_needs_the_setting_and_warns(tmp_path: Path) -> None:
    content = changed("sdkms_endpoint", "http://127.0.0.1:8080")
    (finding,) = loaded(tmp_path, content).errors
    assert "allow_http_on_loopback" in finding.remedy
    result = loaded(tmp_path, content | {"allow_http_on_loopback": True})
    assert result.config is not None
    assert [f.field for f in result.findings] == ["sdkms_endpoint"]


def test_http_elsewhere_is_refused_even_with_the_setting(tmp_path: Path) -> None:
    content = changed("sdkms_endpoint", "http://dsm.example.com")
    result = loaded(tmp_path, content | {"allow_http_on_loopback": True})
    assert error_fields(result) == ["sdkms_endpoint"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://user:hunter2@dsm.example.com",
        "https://dsm.example.com?x",
        "https://dsm.example.com#x",
        "https://dsm.example.com:0",
        "https://dsm.example.com:99999",
        "https://[::1",
        "https://999.1.1.1",
    ],
)
def test_endpoint_that_could_never_be_asked_is_refused(
    tmp_path: Path, endpoint: str
) -> None:
    result = loaded(tmp_path, changed("sdkms_endpoint", endpoint))
    assert error_fields(result) == ["sdkms_endpoint"]
    assert "hunter2" not in str(result.findings)


def test_socket_that_everybody_may_open_is_a_warning(tmp_path: Path) -> None:
    result = loaded(tmp_path, changed("socket_mode", "0666"))
    assert [(f.severity, f.field) for f in result.findings] == [
        (Severity.WARNING, "socket_mode")
    ]


# Settings together.


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    content = {
        "sdkms_endpoint": "http://dsm.example.com",
        "api_key": "",
        "key_name": "k",
        "key_id": "x",
        "coast_for": "8d",
        "probe_interval": "59s",
        "log_levle": "info",
        "remark": "hello",
    }
    result = loaded(tmp_path, content)
    assert {f.field for f in result.findings} == {
        *("sdkms_endpoint", "api_key", "key_name", "key_id", "coast_for"),
        "probe_interval",
        *("log_levle", "remark", "socket_file", "write_format"),
    }


def test_empty_object_misses_every_required_setting(tmp_path: Path) -> None:
    missing = ["sdkms_endpoint", "socket_file", "key_name", "api_key"]
    assert error_fields(loaded(tmp_path, {})) == missing


def test_both_of_name_and_id_are_refused(tmp_path: Path) -> None:
    (finding,) = loaded(tmp_path, BASE | {"key_id": KID}).errors
    assert finding.field == "key_name"
    assert "together with key_id" in finding.what


def test_neither_of_name_and_id_is_refused(tmp_path: Path) -> None:
    content = {k: v for k, v in BASE.items() if k != "key_name"}
    (finding,) = loaded(tmp_path, content).errors
    assert "key_id" in finding.what


def test_unchanged_go_plugin_file_means_what_it_meant(tmp_path: Path) -> None:
    result = loaded(tmp_path, GO_PLUGIN)
    assert result.config is not None
    assert result.config.write_format is WriteFormat.GO_PLUGIN
    assert result.config.effective_api_version is ApiVersion.V2BETA1
    assert result.go_plugin_key_id == HASH
    assert [(f.severity, f.field) for f in result.findings] == [
        (Severity.WARNING, "write_format")
    ]


def test_native_format_answers_v2(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE).config
    assert config is not None
    assert config.effective_api_version is ApiVersion.V2


def test_given_api_version_wins(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE | {"api_version": "v2beta1"}).config
    assert config is not None
    assert config.effective_api_version is ApiVersion.V2BETA1


def test_named_go_plugin_format_is_confirmed_and_needs_no_warning(
    tmp_path: Path,
) -> None:
    result = loaded(tmp_path, BASE | {"write_format": "go-plugin"})
    assert result.findings == ()


def test_go_plugin_hash_takes_the_uuid_and_keeps_the_slash(tmp_path: Path) -> None:
    content = changed("key_id", KID)
    assert loaded(tmp_path, content).go_plugin_key_id.startswith("0f6d48c098ffb398")
    content["sdkms_endpoint"] = SLASHED
    assert loaded(tmp_path, content).go_plugin_key_id.startswith("f9dcd512")


def test_go_plugin_hash_ignores_what_the_environment_overrides(tmp_path: Path) -> None:
    environment = {
        f"{PREFIX}SDKMS_ENDPOINT": "https://other.example.com",
        f"{PREFIX}KEY_NAME": "another",
    }
    result = loaded(tmp_path, GO_PLUGIN, environment)
    assert result.config is not None
    assert result.config.key_name == "another"
    assert result.go_plugin_key_id == HASH


def test_go_plugin_hash_takes_what_only_the_environment_gives(tmp_path: Path) -> None:
    content = {k: v for k, v in GO_PLUGIN.items() if k != "key_name"}
    environment = {f"{PREFIX}KEY_NAME": GO_PLUGIN["key_name"]}
    assert loaded(tmp_path, content, environment).go_plugin_key_id == HASH


def test_overridden_half_surrogate_is_hashed_as_go_reads_it(tmp_path: Path) -> None:
    environment = {f"{PREFIX}KEY_NAME": "fine"}
    half = loaded(tmp_path, GO_PLUGIN | {"key_name": "k\ud800"}, environment)
    replaced = loaded(tmp_path, GO_PLUGIN | {"key_name": "k\ufffd"}, environment)
    assert half.go_plugin_key_id == replaced.go_plugin_key_id != ""


# Names.


def test_names_match_in_any_case(tmp_path: Path) -> None:
    content = {name.upper(): value for name, value in BASE.items()}
    assert loaded(tmp_path, content).findings == ()


@pytest.mark.parametrize("again", ["api_key", "API_KEY", "Api_Key"])
def test_repeated_field_is_refused_in_whatever_case(tmp_path: Path, again: str) -> None:
    content = json.dumps(BASE)[:-1] + f', "{again}": "{SECRET}"}}'
    (finding,) = loaded(tmp_path, content).errors
    assert finding.field == again
    assert "more than once" in finding.what
    assert SECRET not in str(finding)


@pytest.mark.parametrize(
    ("written_name", "meant"),
    [
        ("sdkm_endpoint", "sdkms_endpoint"),
        ("apikey", "api_key"),
        ("Socket_Fiel", "socket_file"),
        ("write_formats", "write_format"),
    ],
)
def test_field_near_a_setting_is_an_error_that_names_it(
    tmp_path: Path, written_name: str, meant: str
) -> None:
    (finding,) = loaded(tmp_path, BASE | {written_name: "x"}).errors
    assert finding.field == written_name
    assert meant in finding.remedy


def test_field_far_from_every_setting_is_a_warning(tmp_path: Path) -> None:
    result = loaded(tmp_path, BASE | {"comment": "hello"})
    assert result.config is not None
    (finding,) = result.findings
    assert (finding.severity, finding.field) == (Severity.WARNING, "comment")


def test_field_far_from_every_setting_is_an_error_when_strict(tmp_path: Path) -> None:
    result = loaded(tmp_path, BASE | {"comment": "hello"}, strict=True)
    assert error_fields(result) == ["comment"]


def test_odd_field_names_are_shown_short_and_on_one_line(tmp_path: Path) -> None:
    odd = "a\nb\x1b[31m\u2028" + "x" * 100
    result = loaded(tmp_path, BASE | {odd: 1, "": 2, "\ud800": 3})
    assert result.config is not None
    shown = [f.field for f in result.findings]
    assert all(name.isprintable() and len(name) <= 60 for name in shown)
    assert '""' in shown


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 0), ("ab", "ab", 0), ("ab", "abc", 1), ("ab", "ba", 2), ("a", "xyz", 3)],
)
def test_edit_distance_counts_up_to_its_limit(a: str, b: str, expected: int) -> None:
    assert edit_distance(a, b, 2) == expected
    assert edit_distance(b, a, 2) == expected


# The environment.


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {
        f"{PREFIX}ALLOW_HTTP_ON_LOOPBACK": "true",
        f"{PREFIX}ACCEPT_KEY_IDS": f"{HASH},{'0' * 64}",
        f"{PREFIX}COAST_FOR": "90",
        f"{PREFIX}PROBE_INTERVAL": "2h",
        f"{PREFIX}LOG_LEVEL": "debug",
        f"{PREFIX}SOCKET_MODE": "0660",
    }
    result = loaded(tmp_path, BASE | {"log_level": "error"}, environment)
    config = result.config
    assert result.findings == ()
    assert config is not None
    assert config.allow_http_on_loopback is True
    assert config.accept_key_ids == (HASH, "0" * 64)
    assert (config.coast_for, config.probe_interval) == (90.0, 7200.0)
    assert config.log_level.value == "debug"
    assert config.socket_mode == 0o660


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ALLOW_HTTP_ON_LOOPBACK", "TRUE"),
        ("ALLOW_HTTP_ON_LOOPBACK", "1"),
        ("ACCEPT_KEY_IDS", "a,b"),
        ("COAST_FOR", "1e3"),
        ("COAST_FOR", "9" * 5000),
        ("LOG_LEVEL", ""),
        ("KEY_NAME", "\udcff"),
    ],
)
def test_wrong_value_in_the_environment_names_the_variable(
    tmp_path: Path, name: str, text: str
) -> None:
    result = loaded(tmp_path, BASE, {PREFIX + name: text})
    assert set(error_fields(result)) == {name.lower()}
    if name != "ACCEPT_KEY_IDS":
        assert PREFIX + name in result.errors[0].what


def test_secret_in_the_environment_is_refused_and_not_quoted(tmp_path: Path) -> None:
    result = loaded(tmp_path, BASE, {f"{PREFIX}API_KEY": SECRET})
    (finding,) = result.errors
    assert finding.field == "api_key"
    assert f"{PREFIX}API_KEY" in finding.what
    assert SECRET not in str(finding)


@pytest.mark.parametrize(
    "proxy", ["socks5://p:1", "http://", "http://u:pw@p:99999", "http://999.1.1.1"]
)
def test_proxy_that_can_not_be_used_is_an_error_without_its_password(
    tmp_path: Path, proxy: str
) -> None:
    result = loaded(tmp_path, BASE, {"HTTPS_PROXY": proxy})
    (finding,) = result.errors
    assert finding.field == "HTTPS_PROXY"
    assert "NO_PROXY" in finding.remedy
    assert "pw" not in str(finding)


def test_proxy_is_not_looked_at_when_dsm_is_exempt(tmp_path: Path) -> None:
    environment = {"HTTPS_PROXY": "socks5://p:1", "NO_PROXY": "fortanix.com"}
    assert loaded(tmp_path, BASE, environment).findings == ()


# Anything at all.

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([value for _, value in ACCEPTED if isinstance(value, str)]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = (
    st.sampled_from(NAMES)
    | st.sampled_from(NAMES).map(str.upper)
    | st.text(st.characters(), max_size=20)
)
VARIABLES = st.dictionaries(
    st.sampled_from([PREFIX + name.upper() for name in NAMES] + ["HTTPS_PROXY"]),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
    max_size=3,
)


@given(
    content=st.dictionaries(FIELDS, JSON_VALUES, max_size=8),
    based=st.booleans(),
    environment=VARIABLES,
    strict=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_object_loads_or_is_refused_in_words(
    *, content: dict[str, Any], based: bool, environment: dict[str, str], strict: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = BASE | content if based else content
        result = loaded(Path(folder), whole, environment, strict=strict)
    assert (result.config is None) == bool(result.errors)
    for finding in result.findings:
        assert finding.field
        assert str(finding).isprintable()
        assert SECRET not in str(finding)


@given(content=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = loaded(Path(folder), content)
    assert result.errors

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_emulator import DemoKey
from dsm_emulator.errors import DsmError
from dsm_emulator.key_filter import parse_filter


SHOWN = {
    "name": "Kubernetes KEK",
    "key_size": 256,
    "key_ops": ["ENCRYPT", "DECRYPT"],
    "custom_metadata": {"env": "prod"},
    "enabled": True,
}


@pytest.mark.parametrize(
    ("wanted", "is_so"),
    [
        ({}, True),
        ({"key_size": 256}, True),
        ({"key_size": 128}, False),
        ({"key_size": {"$eq": 256, "$lt": 200}}, False),
        ({"key_size": {"$gte": 256, "$lte": 256}}, True),
        ({"key_size": {"$gt": 256}}, False),
        ({"key_size": {"$gt": "a"}}, False),
        ({"name": {"$lt": "L"}}, True),
        ({"name": {"$ne": "x"}, "absent": {"$ne": 1}}, True),
        ({"absent": 1}, False),
        ({"name": {"$in": ["Kubernetes KEK"]}}, True),
        ({"name": {"$nin": ["Kubernetes KEK"]}}, False),
        ({"key_ops": {"$all": ["ENCRYPT", "DECRYPT"]}}, True),
        ({"key_ops": {"$all": ["EXPORT"]}}, False),
        ({"key_ops": {"$any": ["EXPORT", "DECRYPT"]}}, True),
        ({"name": {"$any": ["K"]}}, False),
        ({"custom_metadata.env": "prod"}, True),
        ({"name.env": "prod"}, False),
        ({"$text": {"$search": "kubernetes"}}, True),
        ({"$text": {"$search": "vault"}}, False),
        ({"$or": [{"key_size": 1}, {"enabled": True}]}, True),
        ({"$and": [{"key_size": 1}, {"enabled": True}]}, False),
        ({"$nor": [{"key_size": 1}]}, True),
    ],
)
def test_filter_means_what_its_operators_say(
    wanted: dict[str, Any], *, is_so: bool
) -> None:
    assert parse_filter(json.dumps(wanted))(SHOWN) is is_so


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        '{"$odd": 1}',
        '{"$or": {}}',
        '{"$or": [1]}',
        '{"a": {"$odd": 1}}',
        '{"a": {"$in": 1}}',
        '{"$text": "x"}',
        '{"$text": {"$search": 1}}',
        '{"$and":[' * 20 + "{}" + "]}" * 20,
        "[" * 100_000,
    ],
)
def test_malformed_filter_is_400(text: str) -> None:
    with pytest.raises(DsmError) as refused:
        parse_filter(text)
    assert refused.value.status == 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["$or", "$in", "$lt", "$text", "$search", "name"]),
                inner,
            )
        ),
    )
)
def test_any_json_is_a_filter_or_400(value: Any) -> None:
    try:
        test = parse_filter(json.dumps(value))
    except DsmError:
        return
    assert test(SHOWN) in {True, False}


def test_list_is_filtered_and_counted(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.rekey("kek", deactivate_rotated_key=True)
    params = {
        "filter": json.dumps({"state": "Active"}),
        "with_metadata": "true",
        "show_kcv": "true",
    }
    shown = client.get("/crypto/v1/keys", params=params).json()
    assert shown["metadata"] == {"total_count": 2, "filtered_count": 1}
    assert [key["name"] for key in shown["items"]] == ["kek"]
    assert len(shown["items"][0]["kcv"]) == 6
    assert len(shown["items"][0]["kcv_cmac"]) == 10


def test_list_is_narrowed_by_group_type_and_creator(
    client: httpx.Client, demo: DemoKey
) -> None:
    def count(**params: str) -> int:
        return len(client.get("/crypto/v1/keys", params=params).json())

    assert count(group_id=demo.group.group_id) == 1
    assert count(group_id="other") == 0
    assert count(obj_type="RSA") == 0
    assert count(creator=demo.admin.app_id) == 1
    assert count(creator=demo.app.app_id) == 0


def test_page_starts_behind_the_last_key(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.rekey("kek")
    rotated = "kek (rotated at 20231114T221320Z)"

    def names(**params: str) -> list[str]:
        keys = client.get("/crypto/v1/keys", params=params).json()
        return [key["name"] for key in keys]

    assert names(sort="name", start="kek") == [rotated]
    assert names(sort="name:desc", start=rotated) == ["kek"]

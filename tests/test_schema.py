"""Records with a schema: what was written is read back, and whatever else lies in the file is one clear error."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fclip.errors import FclipError
from fclip.schema import JsonValue, as_json, parse_record, read_record, write_record


@dataclass(frozen=True)
class Inner:
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    count: int
    inner: Inner
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    table: dict[str, Inner] = field(default_factory=dict)
    anything: dict[str, JsonValue] = field(default_factory=dict)


WHOLE = Outer(
    "b", 3, Inner("x", 0.5), (0.25, 2.0), ("p", "q"), {"k": Inner("y")}, {"deep": [1, {"z": None}], "t": True}
)


def test_a_record_is_read_back(tmp_path):
    write_record(tmp_path / "r.json", WHOLE)
    assert read_record(tmp_path / "r.json", Outer) == WHOLE
    assert parse_record({"kind": "a", "count": 1, "inner": {"name": ""}, "unknown": 3}, Outer, "f") == Outer(
        "a", 1, Inner("")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": "3"}, r"f: count: '3' is not a valid int"),
        ({"count": True}, "count: True is not a valid int"),
        ({"count": 1.5}, "count"),
        ({"kind": "c"}, "kind: 'c' is not"),
        ({"inner": None}, "inner: not a JSON object"),
        ({"inner": {}}, "inner: lacks name"),
        ({"inner": {"name": "x", "share": math.nan}}, "inner: share: nan is not a valid float"),
        ({"inner": {"name": "x", "share": 10**400}}, "share: 1000.* is not"),
        ({"inner": {"name": "\ud800"}}, "name: .* is not a valid text"),
        ({"pair": [1.0]}, "pair"),
        ({"names": ["a", 1]}, r"names\[1\]: 1 is not a valid str"),
        ({"table": {"k": 1}}, r"table\.k: not a JSON object"),
        ({"anything": {"deep": [1, {"z": math.inf}]}}, "anything"),
        ({"anything": {"deep": json.loads("[" * 900 + "]" * 900)}}, "anything is nested too deep"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(FclipError, match=message):
        parse_record({**as_json(WHOLE), **change}, Outer, "f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "count", "inner", "name"]), inner)
    ),
)


@given(st.dictionaries(st.sampled_from(["kind", "count", "inner", "pair", "names", "table", "anything"]), JSON))
def test_any_json_is_a_record_or_one_error(value):
    value = json.loads(json.dumps(value))
    try:
        found = parse_record({**as_json(WHOLE), **value}, Outer, "f")
    except FclipError as error:
        assert "\n" not in str(error) and str(error).startswith("f: ")
    else:
        assert parse_record(json.loads(json.dumps(as_json(found), allow_nan=False)), Outer, "f") == found


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"text"', b"1" * 5000, b"nan"])
def test_a_damaged_file_is_one_line(tmp_path, data):
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(FclipError, match=r"r\.json") as caught:
        read_record(tmp_path / "r.json", Outer)
    assert "\n" not in str(caught.value)

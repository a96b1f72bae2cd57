"""Configuration: precedence, types, unknown keys, hashes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fclip.config import Config, canonical_json, config_dict, differences, hash_of, option, resolve
from fclip.errors import UsageError


@dataclass(frozen=True)
class Example(Config):
    """An example."""

    frames: int = option(16, "frames", output=True)
    rate: float | None = option(None, "rate", output=True)
    crop: Literal["none", "lite"] = option("none", "crop", output=True)
    names: tuple[str, ...] = option((), "names")
    fast: bool = option(True, "fast")
    place: Path | None = option(None, "place")


def build(flags=None, file=None, environment=None):
    return resolve(
        Example, flags or {}, command="example", commands=["example", "other"], file=file, environment=environment or {}
    )


def test_precedence_default_file_environment_flag(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('frames = 4\n[example]\nrate = 1\ncrop = "lite"\n[other]\nanything = 1\n')
    assert build() == Example()
    assert build(file=file) == Example(frames=4, rate=1.0, crop="lite")
    assert build(file=file, environment={"FCLIP_FRAMES": "5", "FCLIP_FAST": "no"}).frames == 5
    assert build({"frames": 6, "rate": None}, file, {"FCLIP_FRAMES": "5"}) == Example(frames=6, rate=1.0, crop="lite")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame = 3", "did you mean frames"),
        ("[exampel]\nframes = 3", "did you mean example"),
        ("frames = 'many'", "not a valid int"),
        ("frames = true", "not a valid int"),
        ("crop = 'face'", "choose one of none, lite"),
        ("frames = ", "not valid TOML"),
    ],
)
def test_bad_files_name_file_and_remedy(tmp_path, text, message):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        build(file=file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_environment_and_flag_name_where():
    with pytest.raises(UsageError, match="FCLIP_FRAMES"):
        build(environment={"FCLIP_FRAMES": "x"})
    with pytest.raises(UsageError, match="--rate"):
        build({"rate": "x"})


def test_lists_and_paths_from_text():
    config = build({"names": "a, b,,c", "place": "x/y"})
    assert config.names == ("a", "b", "c")
    assert config.place == Path("x/y")


def test_hash_depends_on_output_fields_only():
    config = Example()
    same = replace(config, names=("a",), fast=False, place=Path("z"))
    assert config_dict(config, output_only=True) == config_dict(same, output_only=True)
    assert hash_of(config_dict(config, output_only=True)) != hash_of(
        config_dict(replace(config, frames=3), output_only=True)
    )
    assert differences({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"c": 2}, "d": 3}) == ["b.c: 1 -> 2", "d: null -> 3"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_canonical_json_ignores_order(value):
    assert canonical_json(value) == canonical_json(dict(reversed(list(value.items()))))

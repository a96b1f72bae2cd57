"""The one form of everything that can be added: rows are true, names are checked at once, plug-ins are found."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fclip.config import field_types, loader_processes
from fclip.errors import FclipError, UsageError
from fclip.registry import CAPTIONERS, CONVERTERS, DATASETS, FACE_BACKENDS, VARIANTS, Registry, register

REGISTRIES = [VARIANTS, FACE_BACKENDS, CAPTIONERS, DATASETS, CONVERTERS]
THINGS = [(registry, row) for registry in REGISTRIES for row in registry.rows()]


@pytest.mark.parametrize(("registry", "row"), THINGS, ids=lambda value: getattr(value, "name", None))
def test_a_row_names_a_thing_and_its_options(registry: Registry, row):
    if row.package:
        pytest.importorskip(row.package)
    thing = registry.find(row.name)
    marked = thing.func if row.named else thing
    options = registry.options(row.name)
    assert marked.Options is options, "the row's options are those that the thing is registered with"
    assert options.__dataclass_params__.frozen and row.note
    for field in dataclasses.fields(options):
        assert field.metadata["help"], field.name
    assert registry.make_options(row.name, {}) == options()


def test_wrong_names_and_light_options_import_nothing_heavy():
    code = (
        "import sys, fclip.registry as r\n"
        "for registry in (r.VARIANTS, r.FACE_BACKENDS, r.CAPTIONERS, r.DATASETS, r.CONVERTERS):\n"
        "    try: registry.find('no-such-thing'); sys.exit('found')\n"
        "    except r.UsageError: pass\n"
        "    registry.table()\n"
        "for name in r.VARIANTS.names(): r.VARIANTS.options(name)\n"
        "for name in r.CONVERTERS.names(): r.CONVERTERS.options(name)\n"
        "heavy = {'torch', 'numpy', 'h5py', 'av', 'PIL', 'open_clip', 'transformers'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_of_things_do_not_shadow_those_of_their_command():
    from fclip.stages import caption, convert, face_analyze, preprocess

    for module, registry in (
        (caption, CAPTIONERS),
        (convert, CONVERTERS),
        (face_analyze, FACE_BACKENDS),
        (preprocess, DATASETS),
    ):
        own = set(field_types(module.Config))
        for name, options in registry.all_options().items():
            assert not own & set(options), name


def test_a_thing_of_this_process():
    @register(expensive=True)
    def smile(options, device):
        return options, device

    registry = Registry("grin", "fclip.grins", list)
    registry.add("smile", smile)
    assert registry.names() == ["smile"] and registry.find("smile").expensive
    assert registry.table() == [{"name": "smile", "state": "ready", "needs": "added in this process"}]
    with pytest.raises(UsageError, match="exists already"):
        registry.add("smile", smile)
    with pytest.raises(UsageError, match="unknown grin 'smil'; did you mean smile"):
        registry.find("smil")


def test_a_plug_in_that_is_not_marked_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (tmp_path / "odd_things.py").write_text("class Plain: pass\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fclip.captioners]\nplain = odd_things:Plain\ngone = odd_things:Gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FclipError, match=r"captioner 'plain' .* is not marked with fclip.registry.register"):
        CAPTIONERS.find("plain")
    with pytest.raises(FclipError, match=r"captioner 'gone' .* cannot be loaded"):
        CAPTIONERS.find("gone")
    assert "template" in CAPTIONERS.all_options(), "one broken plug-in does not break the others"


def test_every_extra_that_a_message_names_exists():
    repo = Path(__file__).resolve().parent.parent
    extras = tomllib.loads((repo / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [
        path.read_text() for path in [*(repo / "fclip").rglob("*.py"), *repo.glob("*.md"), *repo.glob("docs/*.md")]
    ]
    named = {
        name
        for text in texts
        for name in re.findall(r"fclip\[(\w+)\]|MissingExtra\(\"(\w+)\"", text)
        for name in name
        if name
    }
    named |= {row.extra for registry in REGISTRIES for row in registry.rows() if row.extra}
    assert {"mediapipe", "quantize", "tensorboard"} <= named <= set(extras)


def test_workers_mean_the_same_everywhere():
    assert loader_processes(1) == 0 and loader_processes(3) == 3
    assert loader_processes(0) in (0, os.cpu_count())

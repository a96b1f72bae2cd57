"""The worked examples of CONTRIBUTING.md and the example package do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", TEXT, re.DOTALL))
ROWS = dict(re.findall(r"```python\n# fclip/registry\.py: (\w+)\n(.*?)```", TEXT, re.DOTALL))


def run(*command: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path), "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_each_addition_is_one_file_one_row_one_test(tmp_path: Path) -> None:
    kinds = {"_variants", "_face_backends", "_captioners", "_datasets", "_converters"}
    tests = [name for name in FILES if name.startswith("tests/")]
    assert ROWS.keys() == kinds and len(tests) == 5 and len(FILES) == 10
    shutil.copytree(REPO / "fclip", tmp_path / "fclip", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert not (tmp_path / name).exists(), f"{name} is there already"
        (tmp_path / name).write_text(text)
    registry = tmp_path / "fclip" / "registry.py"
    source = registry.read_text()
    for function, row in ROWS.items():
        source, count = re.subn(
            rf"(def {function}\(.*?    return \[\n)", lambda m, row=row: m[1] + row, source, count=1, flags=re.DOTALL
        )
        assert count == 1
    registry.write_text(source)
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path, path=tmp_path)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The example package as pip leaves it: its modules and a dist-info with its entry points."""
    shutil.copytree(REPO / "examples" / "plugin" / "fclip_example", tmp_path / "fclip_example")
    project = tomllib.loads((REPO / "examples" / "plugin" / "pyproject.toml").read_text())["project"]
    info = tmp_path / "fclip_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in rows.items())
        for group, rows in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return tmp_path


def test_the_example_package_is_the_text_of_contributing() -> None:
    files = sorted((REPO / "examples" / "plugin" / "fclip_example").glob("[a-z]*.py"))
    texts = {Path(name).name: text for name, text in FILES.items()}
    assert [path.name for path in files] == ["median.py", "motion.py", "stillness.py"]
    assert all(path.read_text() == texts[path.name] for path in files)


def test_the_example_package_is_found_by_its_entry_points(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from fclip.captions.base import create_captioner
    from fclip.cli.app import app
    from fclip.faces.base import create_backend, create_detector
    from fclip.models import create_model

    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("COLUMNS", "120")
    assert create_backend("median", span=1).fingerprint["backend"] == create_detector("median").name == "median"
    assert create_captioner("stillness").fingerprint["subject"] == "The face"
    assert create_model("motion", classes=["a", "b"], frames=2).modalities == ("frames",)
    runner = CliRunner()
    for command, name, option in (
        (["caption", "--mllm"], "stillness", "--subject"),
        (["face-analyze", "--backend"], "median", "--span"),
        (["preprocess", "--crop"], "median", "--span"),
    ):
        assert option in runner.invoke(app, [*command, name, "--help"]).output
        assert "from fclip_example" in runner.invoke(app, [*command, "list"]).output

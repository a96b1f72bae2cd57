"""Every command in README.md and docs/*.md: the cheap ones run as they stand, the others are parsed to the end.

A command stands in a fence marked `sh`, or between backticks in a line. No other fence may hold one, and each first word
has a check here, so that none escapes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.data.media.video import write_video
from fclip.synth.clips import render_clip, sample_clip
from tests.cli.test_chain import COMMANDS

REPO = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:fclip|make|pip|python) [^`]+)`")
STARTS = ("fclip ", "make ", "pip ", "python ", "$ ", "docker ", "sbatch ", "rsync ", "export ")
CHEAP = re.compile(
    r"fclip (doctor$|fetch --list|predict clip\.mp4$|predict clip\.mp4 --render|\S+ .* list$|.* --check$)"
)
ELSEWHERE = ("/data/", " DIR")  # what a reader has and a machine that tests has not
runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def fenced(kind: str, text: str) -> list[str]:
    """The commands of a fence, lines joined, comments left out."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line] if kind == "sh" else []


def commands_of(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    found = [command for kind, body in FENCE.findall(text) for command in fenced(kind, body)]
    return found + [" ".join(command.split()) for command in INLINE.findall(FENCE.sub("", text))]


ALL = {f"{path.name}: {command}": command for path in DOCUMENTS for command in commands_of(path)}


def test_there_are_commands_and_none_outside_the_walk():
    assert len(ALL) > 60 and sum(bool(CHEAP.match(command)) for command in ALL.values()) >= 8
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(FENCE.findall(text)), path
        for kind, body in FENCE.findall(text):
            if kind != "sh":
                hidden = [line for line in body.splitlines() if line.strip().startswith(STARTS)]
                assert not hidden, f"{path}: mark the fence with sh: {hidden}"
        assert not re.findall(r"^(?: {4}|\t)(?:fclip \w|make|pip|python) .*", FENCE.sub("", text), re.MULTILINE), path


def test_links_lead_somewhere_and_pictures_are_small():
    for path in [*DOCUMENTS, REPO / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
            assert (path.parent / link).exists(), f"{path}: {link}"
    pictures = list((REPO / "docs" / "pictures").iterdir())
    assert pictures and max(picture.stat().st_size for picture in pictures) < 150_000


def test_the_chain_of_the_readme_is_the_one_that_is_run_whole():
    """tests/cli/test_chain.py runs it in a fresh folder."""
    (chain,) = [body for kind, body in FENCE.findall((REPO / "README.md").read_text()) if "fclip synth" in body]
    assert [line.split()[1] for line in fenced("sh", chain)] == [line.split()[0] for line in COMMANDS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the documents name: a clip, folders and lists of clips."""
    folder = tmp_path_factory.mktemp("documented")
    clip = render_clip(sample_clip("happiness", 3, 5, ("happiness", "fear")), 160, 4)
    write_video(folder / "clip.mp4", clip.frames, clip.fps)
    lines = ["path,label,identity"]
    for number in range(12):
        label = ("happiness", "fear")[number % 2]
        target = folder / "clips" / label / f"{number}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / "clip.mp4").read_bytes() + bytes([number]))
        lines.append(f"clips/{label}/{number}.mp4,{label},person{number // 2}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    shutil.copytree(folder / "clips", folder / "talks")
    return folder


def fclip(words: list[str], line: str) -> None:
    """Run a cheap command as it stands; parse any other to the end, its configuration included."""
    words = [word for word in words if word not in ("...", "|")]
    if CHEAP.match(line) and not any(name in line for name in ELSEWHERE):
        result = runner.invoke(app, words[1:])
    elif len(words) == 2 and words[1] != "doctor":  # a command's name in the text
        result = runner.invoke(app, [words[1], "--help"])
    else:
        result = runner.invoke(app, [*words[1:], "--dry-run"])
    assert result.exit_code == 0, f"{line}: {result.output[-600:]}"


def make(words: list[str], line: str) -> None:
    words = [word for word in words[1:] if word != "..." and not word.endswith("=...")]
    if "-f" in words and "-C" not in words:  # as in examples/, but with the reader's files beside it
        words = ["-f", str(REPO / "examples" / words[words.index("-f") + 1]), *words[words.index("-f") + 2 :]]
        Path("labels.csv").write_text("path,label,identity\n")
    else:
        words = ["-C", str(REPO), *words]
    command = ["make", "-n", *words, "FCLIP=true", "PYTHON=true"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{line}: {result.stderr[-400:]}"


def pip(words: list[str], line: str) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert words[1] == "install"
    for word in words[2:]:
        name, _, extras = word.rstrip("]").partition("[")
        assert name in (".", "fclip") or (REPO / name).is_dir(), line
        assert set(filter(None, extras.split(","))) <= project["optional-dependencies"].keys(), line


def script(words: list[str], line: str) -> None:
    (path,) = [word for word in words if word.endswith(".sh")]
    subprocess.run(["bash", "-n", str(REPO / path)], check=True)


def python(words: list[str], line: str) -> None:
    path = words[2].replace(".", "/") if words[1] == "-m" else words[1]
    assert any((REPO / f"{path}{end}").exists() for end in ("", ".py")), line


def exported(words: list[str], line: str) -> None:
    name = words[1].partition("=")[0]
    assert any(name in path.read_text(encoding="utf-8") for path in (REPO / "fclip").rglob("*.py")), line


CHECKS = {
    "fclip": fclip,
    "make": make,
    "pip": pip,
    "sbatch": script,
    "export": exported,
    "rsync": lambda words, line: None if len(words) == 4 else pytest.fail(line),
    "docker": lambda words, line: None if (REPO / "Dockerfile").is_file() else pytest.fail(line),
    "python": python,
    "pytest": lambda words, line: None if (REPO / words[2]).is_file() else pytest.fail(line),
}


@pytest.mark.parametrize("name", ALL)
def test_a_documented_command_works(place, monkeypatch, name):
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    for variable in ("FCLIP_WEIGHTS", "FCLIP_MODELS"):
        monkeypatch.delenv(variable, raising=False)
    words = shlex.split(ALL[name])
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(variable, value)
    assert words[0] in CHECKS, f"{name}: give its first word a check"
    assert os.environ.get("HF_HUB_OFFLINE") == "1"
    CHECKS[words[0]](words, ALL[name])

"""Every layout goes whole from preprocess to eval: names, parts and folds arrive where figures are made from."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "data"))

import release_layouts as layouts
from media_files import write_numbered

from fclip.stages import evaluate, pack, preprocess, train

RELEASES = ["dfew", "ferv39k", "mafw", "crema-d", "ravdess", "caer", "afew", "tree"]


def write_tree(root: Path) -> None:
    """A user's own tree of six people, two classes and sessions."""
    for person in range(1, 7):
        for label in ("happy", "Sad"):
            for name in ("session1/a.avi", "session2/b.AVI"):
                (root / f"s{person}" / label / name).parent.mkdir(parents=True, exist_ok=True)
                (root / f"s{person}" / label / name).write_bytes(b"video")


@pytest.mark.parametrize("name", RELEASES)
def test_from_release_to_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Fold 1 is tested on exactly the clips that the release's lists, folders or people put there."""
    source = tmp_path / "source"
    write_tree(source) if name == "tree" else getattr(layouts, f"write_{name.replace('-', '_')}")(source)
    video = write_numbered(tmp_path / "video.mp4", 4, size=(48, 80)).read_bytes()
    for path in source.rglob("*"):
        if path.suffix.lower() in (".mp4", ".avi", ".flv"):
            path.write_bytes(video)
    kind = "folder" if name == "tree" else name
    common = {"root": tmp_path / "ws", "dataset": kind, "workers": 1}
    options = {"source": source, "name": kind, "frames": "2", "size": 64, "accept_mismatch": True}
    done = preprocess.run(preprocess.Config(**common, **options))
    assert done.exit_code == 0 and done.counts["failed"] == 0
    pack.run(pack.Config(**common, captions="none", faces="none"))
    trained = train.run(
        train.Config(**common, variant="linear-probe", clip="tiny", clip_weights="random", epochs=1, frames=2)
    )
    evaluate.run(evaluate.Config(**common))
    with (Path(str(trained.out)) / "eval" / "predictions.csv").open(newline="") as file:
        tested = {row["key"]: row["true"] for row in csv.DictReader(file)}
    from fclip.data.layouts import open_dataset

    dataset = open_dataset(kind, source)
    parts = dataset.folds["1"]["test"]
    assert tested == {clip.key: clip.label for clip in dataset.clips if clip.part in parts} and tested
    monkeypatch.chdir(source)  # a run finds its data by the workspace that it lies in
    again = evaluate.run(evaluate.Config(runs=(str(trained.out),)))
    assert again.counts["runs"] == 1 and not (source / "fclip-data").exists()
    if name == "tree":
        assert dataset.levels == "person/class" and set(tested.values()) == {"happy", "Sad"}
        assert len({clip.meta["identity"] for clip in dataset.clips if clip.part in parts}) * 4 == len(tested)

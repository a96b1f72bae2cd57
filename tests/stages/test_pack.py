"""`fclip pack`: counts in the manifest, the three kinds of captions, clips that lack something."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fclip.data.storage.shards import ShardWriter, frame_sample_fields, read_shard
from fclip.errors import FclipError
from fclip.records import FrameSample
from fclip.stages import caption, face_analyze, pack, preprocess, refine


def _pack(root: Path, **options):
    return pack.run(pack.Config(**{"root": root, "dataset": "demo7", "workers": 1, **options}))


def _packed(folder: Path) -> dict[str, dict[str, bytes]]:
    return {key: fields for path in sorted(folder.glob("*.tar")) for key, fields in read_shard(path)}


def test_the_manifest_counts_classes_and_parts(workspace: Path) -> None:
    infos = [json.loads(fields["json"]) for fields in _packed(workspace / "demo7" / "packed").values()]
    tally = json.loads((workspace / "demo7" / "packed" / "manifest.json").read_text())["tally"]
    assert tally["classes"] == Counter(info["label"] for info in infos)
    found = Counter((info["part"], info["label"]) for info in infos)
    assert {(part, name): n for part, counts in tally["parts"].items() for name, n in counts.items()} == found
    assert set(tally) == {"classes", "parts"}
    table = [line.split() for line in _pack(workspace).lines]
    assert ["", "part1", "part2", "part3", "part4", "part5", "all", "share"][1:] in table
    assert ["happiness", "1", "1", "1", "1", "1", "5", "14.3", "%"] in table


def test_a_missing_caption_is_refused_or_counted(workspace: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(workspace, root)
    refined = sorted((root / "demo7" / "refined").glob("*.jsonl"))[0]
    first, *rest = refined.read_text().splitlines(keepends=True)
    refined.write_text("".join(rest))
    for name in ("manifest.json", "config.json"):  # captions of another program, which no record lists
        (refined.parent / name).unlink()
    key = json.loads(first)["key"]
    with pytest.raises(FclipError, match=f"1 clips lack a caption: {key}; .*--allow-missing"):
        _pack(root, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = _pack(root, out=tmp_path / "out", allow_missing=True)
    assert f"1 clips packed without caption: {key}" in report.lines
    assert report.counts == {"ok": 35, "skipped": 0, "failed": 0}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["tally"]["packed without"] == {"caption": 1}
    packed = _packed(tmp_path / "out")
    assert [name for name, fields in packed.items() if "caption.txt" not in fields] == [key]


def test_a_clip_lost_by_an_earlier_stage_is_skipped_with_its_reason(workspace: Path, tmp_path: Path) -> None:
    """A grey clip has no face; what face-analyze said about it stands in pack's record."""
    root, frames = tmp_path / "root", tmp_path / "root" / "demo7" / "frames"
    shutil.copytree(workspace / "demo7" / "frames", frames)
    for path in frames.glob("part[2-5]*"):
        path.unlink()
    (frames / "manifest.json").unlink()
    (frames / "config.json").unlink()
    shard = frames / "part1-00000.tar"
    samples = dict(read_shard(shard))
    grey, info = next(iter(samples)), json.loads(next(iter(samples.values()))["json"])
    samples[grey] = frame_sample_fields(FrameSample(grey, np.full((4, 80, 80, 3), 128, np.uint8), info))
    with ShardWriter(shard) as writer:
        for key, fields in samples.items():
            writer.write(key, fields)
    common = {"root": root, "dataset": "demo7", "workers": 1, "max_failed": 0.5}
    face_analyze.run(face_analyze.Config(**common, backend="lite"))
    caption.run(caption.Config(**common))
    refine.run(refine.Config(**common))
    report = _pack(root)
    assert report.counts["skipped"] == 1 and grey not in _packed(root / "demo7" / "packed")
    record = json.loads((root / "demo7" / "packed" / "part1-00000.json").read_text())
    ((key, reason),) = record["skipped"]
    assert key == grey and "no face found in any of" in reason
    assert any(f"1 clips skipped for lack of a face analysis: {grey}" in line for line in report.lines)


def test_human_captions_and_none(workspace: Path, tmp_path: Path) -> None:
    """A data set's own captions travel in the frames shards; clips without one are refused."""
    source = workspace / "demo7" / "source"
    rows = list(csv.DictReader((source / "annotations.csv").read_text(encoding="utf-8").splitlines()))[:4]
    (tmp_path / "clips").mkdir()
    with (tmp_path / "mine.csv").open("w", encoding="utf-8") as file:
        file.write("path,label,part,caption\n")
        for number, row in enumerate(rows):
            shutil.copy(source / row["path"], tmp_path / "clips")
            text = f"Die Stirn, Grüße {number}." if number else ""
            file.write(f'{row["path"]},{row["label"]},train,"{text}"\n')
    root = tmp_path / "root"
    options = {"root": root, "workers": 1, "dataset": "csv", "source": tmp_path / "mine.csv"}
    preprocess.run(preprocess.Config(**options, frames="2", size=32))
    base = {"dataset": "mine", "faces": "none"}
    with pytest.raises(FclipError, match=f"1 clips lack a caption: clips_{Path(rows[0]['path']).stem}"):
        _pack(root, **base, captions="human")
    _pack(root, **base, captions="human", allow_missing=True)
    packed = _packed(root / "mine" / "packed")
    texts = [fields.get("caption.txt", b"").decode() for fields in packed.values()]
    assert texts == ["", "Die Stirn, Grüße 1.", "Die Stirn, Grüße 2.", "Die Stirn, Grüße 3."]
    assert json.loads(list(packed.values())[1]["caption.json"])["model"] == "human"
    _pack(root, **base, captions="none", out=tmp_path / "bare")
    assert {frozenset(fields) for fields in _packed(tmp_path / "bare").values()} == {frozenset({"frames.jpg", "json"})}

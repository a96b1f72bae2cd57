"""The leak probe and the review queue around refinement."""

from __future__ import annotations

import csv
import json
import shutil

from fclip.data.storage.captions import read_captions
from fclip.stages import refine


def test_report_probes_both_sides_and_edits_come_back(workspace, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(workspace, root)
    refined = root / "demo7" / "refined"
    common = {"root": root, "dataset": "demo7", "workers": 1}
    report = refine.run(refine.Config(**common, report=True))
    leak = json.loads((refined / "leak.json").read_text())
    assert set(leak) == {"before", "after"} == set(report.values["leak"])
    assert 0 <= leak["after"]["interval"][0] <= leak["after"]["accuracy"] <= leak["after"]["interval"][1] <= 1
    for name in ("before", "after"):
        lengths = leak[name]["lengths"]
        assert 5 < lengths["median"] <= lengths["p95"] <= lengths["longest"] <= 77 and lengths["target"] == 35
        assert lengths["over_limit"] == {"CLIP": 0.0, "Long-CLIP": 0.0}
        assert any(line.startswith(f"length {name}: {lengths['mean']:.1f} tokens") for line in report.lines)
    key, record = next(iter(read_captions(next(refined.glob("part1-*.jsonl"))).items()))
    before = read_captions(root / "demo7" / "captions" / next(refined.glob("part1-*.jsonl")).name)[key]
    with (refined / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["key", "text", "reasons", "suggested", "check"]
    rows = [row for row in rows if row["key"] != key]
    rows.append(dict(zip(columns, [key, before.text, "", "The brows rise.", "00000000"], strict=True)))
    with (refined / "review.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    refine.run(refine.Config(**common, apply_review=refined / "review.csv", overwrite=True, report=True))
    assert read_captions(next(refined.glob("part1-*.jsonl")))[key].text == "The brows rise."
    with (refined / "review.csv").open(newline="") as file:
        assert "The brows rise." in [row["suggested"] for row in csv.DictReader(file)], "edits survive a rerun"
    assert record.text != "The brows rise."

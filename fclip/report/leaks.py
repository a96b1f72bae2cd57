"""The leak probe around refinement: what captions alone give away and how long they are, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fclip.config import ShardConfig
from fclip.runner.report import StageReport
from fclip.runner.workspace import dataset_folder, list_shards, require_folder

if TYPE_CHECKING:
    from fclip.records import CaptionRecord


def probe_refinement(config: ShardConfig, before: Path, after: Path) -> StageReport:
    """Probe and measure both caption folders; write `<after>/leak.json` and the review queue `<after>/review.csv`.

    Labels and parts come from the frames shards. Edits in a review.csv that is there are kept.
    """
    from fclip.captions.probe.leak import leak_probe
    from fclip.captions.probe.lengths import length_statistics, length_summary
    from fclip.captions.probe.review import suspicious, write_review
    from fclip.files import write_json
    from fclip.models.backbone.tokenizer import clip_tokenizer

    labels, parts = _labels_and_parts(config)
    encode = clip_tokenizer().encode
    report = StageReport("leak probe")
    raw, refined = _read_folder(before, "captions"), _read_folder(after, "refined")
    for name, records in (("before", raw), ("after", refined)):
        keys = sorted(key for key in records if key in labels)
        found = leak_probe([records[k].text for k in keys], [labels[k] for k in keys], [parts[k] for k in keys])
        lengths = length_statistics((record.text for record in records.values()), lambda text: len(encode(text)) + 2)
        report.values[name] = found.as_dict() | {"lengths": lengths}
        report.lines.append(f"leak probe {name}: {found.summary()}")
        report.lines.append(f"length {name}: {length_summary(lengths)}")
    rows = suspicious({k: r for k, r in raw.items() if k in labels}, refined, labels, found, keys)
    kept = write_review(after / "review.csv", rows)
    write_json(after / "leak.json", report.values)
    report.lines.append(f"review queue: {len(rows)} captions in {after / 'review.csv'}, {kept} edits kept")
    return report


def _read_folder(folder: Path, stage: str) -> dict[str, CaptionRecord]:
    from fclip.data.storage.captions import read_captions

    records: dict[str, CaptionRecord] = {}
    for path, _ in list_shards(folder, ".jsonl", stage):
        records |= read_captions(path)
    return records


def _labels_and_parts(config: ShardConfig) -> tuple[dict[str, str], dict[str, str]]:
    from fclip.data.storage.shards import parse_info, read_shard

    frames = require_folder(dataset_folder(config) / "frames", "frames", config)
    labels, parts = {}, {}
    for path, _ in list_shards(frames, ".tar", "frames"):
        for key, fields in read_shard(path):
            info = parse_info(key, fields)
            labels[key], parts[key] = info["label"], info["part"]
    return labels, parts

"""The leak probe over caption folders: how well do the captions alone give the label away, before and after refine."""

from __future__ import annotations

from pathlib import Path

from fclip.config import ShardConfig
from fclip.stages.result import StageReport
from fclip.stages.workspace import dataset_folder, list_shards, require_folder


def probe_folders(config: ShardConfig, folders: dict[str, Path]) -> StageReport:
    """Run the bag-of-words probe on each named folder of captions; labels and parts come from the frames shards."""
    from fclip.captions.leak import leak_probe
    from fclip.data.jsonl import read_captions

    labels, parts = _labels_and_parts(config)
    report = StageReport("leak probe")
    for name, folder in folders.items():
        texts: dict[str, str] = {}
        for path, _ in list_shards(folder, ".jsonl", "captions"):
            texts |= {key: record.text for key, record in read_captions(path).items() if key in labels}
        keys = sorted(texts)
        found = leak_probe([texts[k] for k in keys], [labels[k] for k in keys], [parts[k] for k in keys])
        report.values[name] = found.as_dict()
        report.lines.append(f"leak probe {name}: {found.summary()}")
    return report


def _labels_and_parts(config: ShardConfig) -> tuple[dict[str, str], dict[str, str]]:
    import json

    from fclip.data.shards import read_shard

    frames = require_folder(dataset_folder(config) / "frames", "frames", config)
    labels, parts = {}, {}
    for path, _ in list_shards(frames, ".tar", "frames"):
        for key, fields in read_shard(path):
            info = json.loads(fields["json"])
            labels[key], parts[key] = info["label"], info["part"]
    return labels, parts

"""Which clips lack face analysis or a caption when they are packed, and whether an earlier stage said why."""

from __future__ import annotations

from pathlib import Path

from fclip.runner.commit import CommitRecord, read_failures, read_sealed
from fclip.runner.stage import ShardTask
from fclip.runner.tasks import take
from fclip.runner.verify import read_manifest, verified

FACES, CAPTION = "face analysis", "caption"
Lacking = dict[str, dict[str, str]]  # key -> modality -> reason given by the stage that lost it, or ""


def lacking(task: ShardTask, faces: str, captions: str) -> Lacking:
    """What the clips of a shard lack; `task.inputs` are the frames shard and the parts that there are.

    `faces` and `captions` are pack's options: where each comes from, "none" for not at all.
    """
    from fclip.data.storage.captions import read_captions
    from fclip.data.storage.parts import FacesPart
    from fclip.data.storage.shards import index_shard

    parts = {path.suffix: path for path in task.inputs[1:]}
    wanted: dict[str, set[str]] = {}
    if faces == "cache":
        wanted[FACES] = set()
        if ".h5" in parts:
            with FacesPart(parts[".h5"]) as part:
                wanted[FACES] = set(part.keys)
    if captions == "refined":
        wanted[CAPTION] = set(read_captions(parts[".jsonl"])) if ".jsonl" in parts else set()
    elif captions == "human":
        wanted[CAPTION] = _captioned(task)
    reasons = {FACES: _losses(parts.get(".h5")), CAPTION: {} if captions == "human" else _caption_losses(parts)}
    keys = take(index_shard(task.inputs[0]), task.payload)
    rows = {key: {name: reasons[name].get(key, "") for name, has in wanted.items() if key not in has} for key in keys}
    return {key: row for key, row in rows.items() if row}


def _captioned(task: ShardTask) -> set[str]:
    """Keys of the clips whose json holds a caption of the data set's own."""
    from fclip.data.storage.shards import parse_info, read_shard

    return {key for key, fields in read_shard(task.inputs[0]) if parse_info(key, fields).get("caption")}


def _caption_losses(parts: dict[str, Path]) -> dict[str, str]:
    """Refine's reasons, and those of the captions beside it; captions need faces in turn."""
    refined = parts.get(".jsonl")
    if refined is None:
        return {}
    captions = refined.parent.parent / "captions" / refined.name
    return _losses(parts.get(".h5")) | _losses(captions) | _losses(refined)


def _losses(part: Path | None) -> dict[str, str]:
    """Key -> reason of the clips that a stage skipped or failed, from the records beside its part file."""
    if part is None or read_manifest(part.parent) is None:
        return {}  # another program's
    skipped = dict(read_sealed(part.with_suffix(".json"), CommitRecord).skipped)
    return skipped | read_failures(verified(part.with_suffix(".failed.jsonl")))

"""What a data set in the workspace looks like, for the report: clips with their face maps, captions, the leak probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.runner.workspace import list_shards

if TYPE_CHECKING:
    from fclip.data.storage.packed import PackedSample
    from fclip.report.page.blocks import Block

MAX_SHARDS = 6  # looked into for clips of every class


def clip_blocks(folder: Path, clips: int) -> list[Block]:
    """Frames, parsing and landmarks of up to `clips` clips, of different classes as far as possible."""
    from fclip.report.page.blocks import Heading, Picture, Pictures

    if not (folder / "packed" / "manifest.json").is_file() or clips < 1:
        return []
    pictures = []
    for sample in _find_samples(folder / "packed", clips):
        if sample.parsing is not None and sample.landmarks is not None:
            caption = f"{sample.key}: {sample.info['label']}" + (f". {sample.caption}" if sample.caption else "")
            pictures.append(Picture(_draw(sample), caption))
    return [Heading(f"Clips of {folder.name}, with parsing and landmarks"), Pictures(pictures)] if pictures else []


def _find_samples(packed: Path, clips: int) -> Iterator[PackedSample]:
    """The first clip of each class that has face maps, in the first shards."""
    from fclip.data.storage.packed import parse_packed
    from fclip.data.storage.shards import parse_info, read_shard
    from fclip.data.storage.splits import read_classes

    wanted = min(clips, len(read_classes(packed)))
    seen: set[str] = set()
    for path, _ in list_shards(packed, ".tar", "packed")[:MAX_SHARDS]:
        for key, fields in read_shard(path):
            label = parse_info(key, fields)["label"]
            if label not in seen and {"parsing.png", "landmarks.npy"} <= fields.keys():
                seen.add(label)
                yield parse_packed(key, fields)
            if len(seen) == wanted:
                return


def clips_named(folder: Path, texts: Mapping[str, str]) -> list[Block]:
    """Frames of the clips of these keys with the text of each, where they lie packed in the data set's folder."""
    from fclip.data.storage.packed import parse_packed
    from fclip.data.storage.shards import index_shard, read_fields
    from fclip.report.page.blocks import Picture, Pictures

    if not (folder / "packed" / "manifest.json").is_file():
        return []
    found: dict[str, Picture] = {}
    for path, _ in list_shards(folder / "packed", ".tar", "packed"):
        if len(found) == len(texts):
            break
        index = index_shard(path)
        with path.open("rb") as file:
            for key in index.keys() & texts.keys():
                sample = parse_packed(key, read_fields(file, index[key]))
                found[key] = Picture(_draw(sample), texts[key])
    pictures = [found[key] for key in texts if key in found]
    return [Pictures(pictures)] if pictures else []


def _draw(sample: PackedSample) -> bytes:
    """A contact sheet of one clip as JPEG; its caption stands beside the picture."""
    import dataclasses
    import io

    from fclip.data.storage.sheet import draw_clips

    buffer = io.BytesIO()
    draw_clips([dataclasses.replace(sample, caption=None)], frames=6, written=False).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def caption_blocks(folder: Path, most: int = 8) -> list[Block]:
    """Captions before and after refinement with what was cut and why, cut ones first."""
    from fclip.data.storage.captions import read_captions
    from fclip.report.page.blocks import Cell, Heading, Table, Text

    before, after = folder / "captions", folder / "refined"
    if not all((path / "manifest.json").is_file() for path in (before, after)):
        return []
    cut: list[list[Cell]] = []
    kept: list[list[Cell]] = []
    total = 0
    for path, _ in list_shards(after, ".jsonl", "refined"):
        raw = read_captions(before / path.name)
        for key, record in read_captions(path).items():
            total += 1
            what = "; ".join(f"“{text}” ({reason})" for text, reason in record.removed) or "nothing"
            (cut if record.removed else kept).append([key, raw[key].text if key in raw else None, record.text, what])
    if not total:
        return []
    return [
        Heading(f"Captions of {folder.name}, before and after refinement"),
        Text(f"Something was cut from {len(cut)} of {total} captions."),
        Table(["clip", "before", "after", "cut"], [*cut, *kept][:most]),
    ]


def leak_blocks(folder: Path) -> list[Block]:
    """The leak probe's result (refined/leak.json): how well the captions alone give the label away."""
    from fclip.report.evaluated import read_leak
    from fclip.report.page.blocks import Cell, Heading, Table, Text
    from fclip.report.results import interval

    leak = read_leak(folder)
    if leak is None:
        return []
    rows: list[list[Cell]] = [
        [name, 100 * probe.accuracy, interval(probe.interval), 100 * probe.majority]
        for name, probe in (("before", leak.before), ("after", leak.after))
    ]
    return [
        Heading(f"What the captions of {folder.name} give away"),
        Table(["captions", "accuracy of a bag-of-words classifier", "95 %", "share of the largest class"], rows),
        Text("In percent. What is above the largest class's share is movement that the label shows in, or a leak."),
    ]

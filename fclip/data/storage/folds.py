"""What a packed folder holds for a fold: the shards of its sides, frames a clip, where its captions come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.errors import FclipError
from fclip.files import parse_json
from fclip.records import CaptionSource
from fclip.runner.workspace import list_shards

if TYPE_CHECKING:
    from fclip.data.storage.splits import Splits


HELD_OUT = 10  # one shard of so many is held out where a fold has one training part only


@dataclass(frozen=True)
class FoldShards:
    """Shards of a fold's sides; `held_out` are those the selection looks at (val or test part), maybe none."""

    train: list[Path]
    test: list[Path]
    held_out: list[Path]


def fold_shards(splits: Splits, packed: Path, fold: str, select: str) -> FoldShards:
    """Split a packed folder's shards for a fold and selection mode.

    val holds out the training part that follows the test part in order: whole parts, so identities stay apart where
    parts are identity-disjoint. With one training part only (FERV39k, whose identities are not known) it holds out
    every tenth shard, that is clips that lie together in the source; FclipError when there is only one shard.
    """
    sides = splits.folds[fold]
    train, test = list(sides["train"]), list(sides["test"])
    held: list[str] = []
    if select == "val" and len(train) > 1:
        held = [next((p for p in train if p > test[-1]), train[0])]
        train = [p for p in train if p not in held]
    elif select == "best-on-test":
        held = test
    shards = [path for path, _ in list_shards(packed, ".tar", "packed")]

    def of(parts: list[str]) -> list[Path]:
        return [path for path in shards if path.stem.rpartition("-")[0] in parts]

    result = FoldShards(of(train), of(test), of(held))
    if select == "val" and not held:
        if len(result.train) < 2:
            raise FclipError(f"fold {fold} has one training shard, so nothing can be held out; use --select last")
        chosen = result.train[HELD_OUT - 1 :: HELD_OUT] or result.train[-1:]
        result = FoldShards([path for path in result.train if path not in chosen], result.test, chosen)
    if not result.train:
        raise FclipError(f"{packed}: no shard of the training parts {', '.join(train)} of fold {fold}")
    return result


def clip_frames(shard: Path) -> int:
    """Frames a clip in a shard, from its first clip."""
    return int(_first_clip(shard)["frames"])


def frame_size(shard: Path) -> int:
    """The shorter side of the frames in a shard, from its first clip."""
    info = _first_clip(shard)
    return int(min(info["height"], info["width"]))


def _first_clip(shard: Path) -> dict[str, Any]:
    from fclip.data.storage.shards import parse_info, read_shard

    for key, fields in read_shard(shard):
        return parse_info(key, fields)
    raise FclipError(f"{shard}: holds no clip")


def caption_source(packed: Path) -> CaptionSource:
    """Where the captions of packed shards come from (the first clip that has one)."""
    from fclip.data.storage.shards import index_shard, read_fields
    from fclip.schema import parse_record

    for path, _ in list_shards(packed, ".tar", "packed"):
        for key, fields in index_shard(path).items():
            if "caption.json" in fields:
                with path.open("rb") as file:
                    data = read_fields(file, {"caption.json": fields["caption.json"]})["caption.json"]
                return parse_record(parse_json(data, f"{path}: {key}.caption.json"), CaptionSource, f"{path}: {key}")
    return CaptionSource()


def data_hash(packed: Path) -> str | None:
    """Identity of a packed folder's content, by the hashes in its manifest; None where another program made it."""
    from fclip.config import hash_of
    from fclip.runner.verify import read_manifest
    from fclip.schema import as_json

    manifest = read_manifest(packed)
    return hash_of(as_json(manifest.outputs)) if manifest else None

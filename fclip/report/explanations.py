"""Why clips were classified as they were, stored beside a run's predictions, and the pictures made from it.

`<run>/eval/explanations.npz`, arrays without pickle: keys (N,), labels (N,), classes (C,), modalities (M,), positive
and negative (N, M, C) cosines to the label texts and weights (N, M), nan where a clip lacks the modality, logits
(N, C), frames uint8 (N, S, H, W, 3), relevance and attention (N, S, Hp, Wp): what the patches of these S frames add to
the log odds of the predicted class, and how the class token looks at them (S = 0 for a model without frames); occlusion
(N, G, G): how these odds fall where a place is covered; agreement (N,): rank correlation of relevance and occlusion.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from fclip.errors import FclipError
from fclip.files import atomic_write
from fclip.report.page.blocks import Picture

FILE = "explanations.npz"  # in a run's eval folder
MAX_BYTES = 256 << 20
SIDE = 112  # pixels of a stored frame
GAP = 3
DAMAGED = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Explanations:
    """The arrays of an explanations.npz; see the module's text."""

    keys: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    modalities: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    weights: np.ndarray
    logits: np.ndarray
    frames: np.ndarray
    attention: np.ndarray
    relevance: np.ndarray
    occlusion: np.ndarray
    agreement: np.ndarray

    def __post_init__(self) -> None:
        n, m, c = len(self.keys), len(self.modalities), len(self.classes)
        wanted = {"labels": (n,), "positive": (n, m, c), "negative": (n, m, c), "weights": (n, m), "logits": (n, c)}
        wanted |= {"agreement": (n,), "relevance": self.attention.shape}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise FclipError(f"explanations: {name} has shape {getattr(self, name).shape}, not {shape}")
        if self.frames.shape[:2] != self.attention.shape[:2] or len(self.frames) != n:
            raise FclipError("explanations: frames and attention are of different clips")


def write_explanations(path: Path, found: Explanations) -> None:
    """Write the .npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{field.name: getattr(found, field.name) for field in fields(found)})
    with atomic_write(path) as temp:
        temp.write_bytes(buffer.getvalue())


def read_explanations(path: Path) -> Explanations:
    """Read an explanations.npz; FclipError if it is none, or too large."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise FclipError(f"{path}: larger than {MAX_BYTES} bytes; make it again: fclip report --explain")
        with np.load(path, allow_pickle=False) as arrays:
            return Explanations(**{field.name: arrays[field.name] for field in fields(Explanations)})
    except DAMAGED as error:
        raise FclipError(f"{path}: not an explanations file ({error}); make it again: fclip report --explain") from None


def class_similarities(found: Explanations) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{modality: (positive (C,), negative (C,))}: mean cosine to the texts of the true class; nan without a clip."""
    result = {}
    for m, modality in enumerate(found.modalities):
        means = [np.full(len(found.classes), np.nan) for _ in range(2)]
        for c, name in enumerate(found.classes):
            clips = found.labels == name
            if clips.any():
                means[0][c], means[1][c] = (_mean(each[clips, m, c]) for each in (found.positive, found.negative))
        result[str(modality)] = (means[0], means[1])
    return result


def _mean(values: np.ndarray) -> float:
    """Mean of what is there; nan if nothing is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def agreement_interval(found: Explanations) -> tuple[float, float, float] | None:
    """Mean over clips of the rank correlation of relevance and occlusion with its 95 % interval; None without maps."""
    values = found.agreement[np.isfinite(found.agreement)]
    if not found.relevance.size or len(values) < 2:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    bound = float(stdtrit(len(values) - 1, 0.975)) * error
    return mean, mean - bound, mean + bound


def map_pictures(
    found: Mapping[str, Explanations], most: int, what: Literal["relevance", "attention"]
) -> list[Picture]:
    """One picture a clip: its frames, and under them each run's relevance, or attention (Fig. 6).

    Runs that explain the same clip stand under one another, models that read more below those that read less. Of each
    set of clips, up to `most` are shown; classes take turns.
    """
    ordered = sorted(found.items(), key=lambda pair: ("caption" in pair[1].modalities, len(pair[1].modalities)))
    stacks: dict[tuple[str, bytes], list[tuple[str, Explanations, int]]] = {}
    for run, each in ordered:
        for index in spread_over_classes(each.labels.tolist(), most) if each.attention.size else ():
            same = str(each.keys[index]), each.frames[index].tobytes()
            stacks.setdefault(same, []).append((run, each, index))
    return [_map_picture(stack, what) for stack in stacks.values()]


def _map_picture(stack: Sequence[tuple[str, Explanations, int]], what: Literal["relevance", "attention"]) -> Picture:
    """The frames of one clip and a row of maps for each run; `stack`: (run, its explanations, clip's index)."""
    _, first, place = stack[0]
    rows, notes = [_row(first.frames[place])], []
    for run, found, index in stack:
        values = getattr(found, what)[index]
        rows.append(_row(_signed(found.frames[index], values) if what == "relevance" else _heat(first, place, values)))
        scores = np.exp(found.logits[index] - found.logits[index].max())
        best = int(scores.argmax())
        note = f"{run} predicted {found.classes[best]} ({100 * scores[best] / scores.sum():.0f} %)"
        notes.append(note + (f", agreement {found.agreement[index]:.2f}" if what == "relevance" else ""))
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    pixels = np.concatenate([part for row in rows for part in (row, gap)][:-1])
    return Picture(_jpeg(pixels), f"{first.keys[place]}: true {first.labels[place]}; from above, {'; '.join(notes)}")


def spread_over_classes(labels: Sequence[str], most: int) -> list[int]:
    """Indices of up to `most` clips, one of each class before a second of any, in the order of the clips."""
    seen: dict[str, int] = {}
    ranked = []
    for index, label in enumerate(labels):
        ranked.append((seen.get(label, 0), index))
        seen[label] = seen.get(label, 0) + 1
    return sorted(index for _, index in sorted(ranked)[:most])


def small_frames(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (S, H, W, 3) with their longer side at most SIDE pixels."""
    from PIL import Image

    count, height, width, _ = frames.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]
    return np.stack(small) if count else np.zeros((0, size[1], size[0], 3), np.uint8)


def _heat(found: Explanations, index: int, attention: np.ndarray) -> np.ndarray:
    """The frames of a clip with attention (S, Hp, Wp) in orange, scaled over the clip: (S, H, W, 3)."""
    low, high = float(attention.min()), float(attention.max())
    return _blend(found.frames[index], (attention - low) / max(high - low, 1e-9))


def _signed(frames: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Frames (S, H, W, 3) with relevance (S, Hp, Wp): orange for the answer, blue against it; scaled over the clip."""
    return _blend(frames, relevance / max(float(np.abs(relevance).max()), 1e-12))


def _blend(frames: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Darkened frames (S, H, W, 3) with shares (S, Hp, Wp) from -1, blue, to 1, orange; same shape."""
    from PIL import Image

    height, width = frames.shape[1:3]
    mixed = []
    for frame, patches in zip(frames, shares, strict=True):
        large = Image.fromarray(patches.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        share = np.clip(np.asarray(large), -1, 1)[..., None]
        colour = np.where(share > 0, np.array([255.0, 110.0, 0.0]), np.array([0.0, 140.0, 255.0]))
        mixed.append((0.75 * np.abs(share) * colour + (1 - 0.75 * np.abs(share)) * (0.6 * frame)).astype(np.uint8))
    return np.stack(mixed)


def _row(frames: np.ndarray) -> np.ndarray:
    """Frames (S, H, W, 3) side by side with white gaps."""
    padded = np.pad(frames, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)  # (S, H, W + GAP, 3)
    return np.concatenate(list(padded), axis=1)[:, :-GAP]


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()

"""From a loader's batch to a model's batch: resize, normalise, draw the maps as images, tokenise captions.

Cached features of frames and captions (see `features`) take their place.
All of it runs on the model's device, in one place for training, evaluation and prediction, so that a model never sees
differently prepared input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.errors import FclipError
from fclip.faces.maps import landmark_images, parsing_images
from fclip.models.base import ExpressionModel


class InputPreparer:
    """Prepares batches for one model on one device.

    `without` names modalities to leave out although the data have them (caption-free test).
    """

    def __init__(self, model: ExpressionModel, device: torch.device, without: tuple[str, ...] = ()) -> None:
        self.device, self.without, self.model = device, without, model
        self.modalities = tuple(name for name in model.modalities if name not in without)
        self.preprocess = model.preprocess
        self.classes = {name: i for i, name in enumerate(model.classes)}
        self.tokenizer = model.tokenizer
        self.mean = torch.tensor(self.preprocess.mean, device=device).view(1, 1, 3, 1, 1)
        self.std = torch.tensor(self.preprocess.std, device=device).view(1, 1, 3, 1, 1)

    def groups(self, batch: dict[str, Any]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Yield (rows, model batch) for each set of clips that have the same modalities.

        Clips with and without a caption are never mixed, so that a result does not depend on a clip's neighbours.
        """
        captions = batch.get("captions") or [None] * len(batch["keys"])
        wants_caption = "caption" in self.modalities
        with_text = [i for i, text in enumerate(captions) if text and wants_caption]
        without = [i for i in range(len(captions)) if i not in set(with_text)]
        for rows in (with_text, without):
            if rows:
                yield rows, self._prepare(batch, rows, captions if rows is with_text else None)

    def _prepare(self, batch: dict[str, Any], rows: list[int], captions: list[str | None] | None) -> dict[str, Tensor]:
        index = torch.tensor(rows)
        whole = len(rows) == len(batch["keys"])
        result: dict[str, Tensor] = {}

        def pick(name: str) -> Tensor:
            value: Tensor = batch[name] if whole else batch[name][index]
            return value.to(self.device, non_blocking=True)

        if "frame_features" in batch:
            result["frame_features"] = pick("frame_features")
        else:
            result["frames"] = self.normalise(pick("frames").float().div_(255))
        if "parsing" in self.modalities and batch.get("parsing") is not None:
            result["parsing"] = self.normalise(parsing_images(pick("parsing")))
        if "landmarks" in self.modalities and batch.get("landmarks") is not None:
            result["landmarks"] = self.normalise(landmark_images(pick("landmarks"), self.preprocess.image_size))
        if "signals" in self.modalities and batch.get("signals") is not None:
            self._check_signals(batch, rows)
            result["signals"] = pick("signals")
        if captions is not None and "caption_features" in batch:
            result["caption_features"] = torch.stack([batch["caption_features"][i] for i in rows]).to(self.device)
        elif captions is not None:
            texts = [str(captions[i]) for i in rows]
            result["captions"] = self.tokenizer(texts, context_length=self.model.caption_context).to(self.device)
        if batch.get("labels") is not None:
            result["labels"] = self.labels([batch["labels"][i] for i in rows]).to(self.device)
        return result

    def _check_signals(self, batch: dict[str, Any], rows: list[int]) -> None:
        """Raise FclipError unless the clips' signals are those that the model reads; a clip without a face has none."""
        wanted = self.model.signal_names
        for row in rows:
            names = batch["infos"][row].get("signal_names")
            wanted = wanted or tuple(names or ())
            if names and tuple(names) != wanted:
                other = next((name for name in names if name not in wanted), f"{len(names)} of {len(wanted)}, or order")
                raise FclipError(
                    f"clip {batch['keys'][row]}: its signals are not those of the training clips ({other}); "
                    "run fclip face-analyze with the same back end for both"
                )

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, T, 3, H, W) in [0, 1] -> the model's size, (x - mean) / std."""
        size = self.preprocess.image_size
        if images.shape[-2:] != (size, size):
            b, t = images.shape[:2]
            flat = F.interpolate(images.flatten(0, 1), (size, size), mode="bicubic", antialias=True)  # (B*T, 3, S, S)
            images = flat.clamp_(0, 1).unflatten(0, (b, t))  # (B, T, 3, S, S)
        return (images - self.mean) / self.std

    def labels(self, names: list[str]) -> Tensor:
        """Class indices (B,) of label names; FclipError for a name that the model does not know."""
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise FclipError(f"label {unknown[0]!r} is not among the model's classes: {', '.join(self.classes)}")
        return torch.tensor([self.classes[name] for name in names])

"""How to train, as command-line options: those that `fclip train` and `fclip zeroshot` share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from fclip.catalogue import listed, published
from fclip.config import Config, option, options_of
from fclip.registry import CLIP, VARIANTS

if TYPE_CHECKING:
    from fclip.models.base import ExpressionModel
    from fclip.models.recipes import Recipe
    from fclip.schema import JsonObject


@dataclass(frozen=True)
class TrainOptions(Config):
    """The model and its training. Hyper-parameters left out are those of the recipe: the paper's, on `tiny` its own."""

    variant: str = option("star-dagger", "which model; list = show them", output=True, registry=VARIANTS)
    clip: str = option(
        "auto",
        "tiny, ViT-B-16, ViT-B-32, ViT-L-14 or another open_clip model (list shows them); NAME@SIZE = that image size; "
        "auto = ViT-B-16, tiny for rendered faces",
        output=True,
    )
    clip_weights: str | None = option(
        None, "tag, file or name (FaRL) of CLIP's weights instead of the default", output=True
    )
    activation: Literal["gelu", "quickgelu"] | None = option(
        None, "of the MLPs of CLIP, for a file of weights that does not say what it was trained with", output="given"
    )
    longclip_weights: str | None = option(
        None, "Long-CLIP for captions: LongCLIP-B or a file (else CLIP's positions are stretched)", output=True
    )
    epochs: int | None = option(None, "epochs [the recipe's]", output=True)
    batch_size: int | None = option(None, "clips a step [the recipe's]", output=True)
    lr: float | None = option(None, "initial learning rate [the recipe's]", output=True)
    weight_decay: float | None = option(None, "weight decay, not on biases and norms [the recipe's]", output=True)
    momentum: float | None = option(None, "momentum of SGD [the recipe's]", output=True)
    optimizer: Literal["sgd", "adamw"] | None = option(None, "optimizer [the recipe's]", output=True)
    schedule: Literal["cosine", "multistep", "constant"] | None = option(
        None, "learning-rate schedule [the recipe's]", output=True
    )
    warmup: int = option(0, "steps of linear warm-up", output=True)
    frames: int | None = option(None, "frames a clip [those in the shards]", output=True)
    random_frames: bool | None = option(
        None,
        "of clips with more frames, train on a random one of each segment, not on the centres [the recipe's: random]",
        output="given",
    )
    augment: Literal["none", "crop-flip", "full"] | None = option(
        None,
        "random change of training clips; full = resized crop, flip, rotation, brightness, as DFER-CLIP [the recipe's]",
        output="given",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "auto = bf16 on a GPU, fp32 on the CPU", output=True
    )
    clip_norm: float = option(0.0, "clip gradients to this norm; 0 = off", output=True)
    accumulate: int = option(1, "batches a step", output=True)
    ema: float = option(0.0, "decay of a moving average of the weights, e.g. 0.999; 0 = off", output=True)
    balance: bool = option(False, "draw all classes equally often", output=True)
    without: tuple[str, ...] = option((), "modalities to leave out: parsing,landmarks,caption", output=True)
    set: tuple[str, ...] = option(
        (),
        "options of the variant as name=value,...; each is an option of its own, too: see --variant NAME --help",
        output=True,
    )
    options: Any = options_of("variant", output=False)
    select: Literal["last", "val", "best-on-test"] = option(
        "last",
        "checkpoint to report: the last; the best on a training part held out; or the best on the test part, "
        "as published figures do (flagged in every report)",
        output=True,
    )
    save_every: int = option(0, "also write a checkpoint every N steps")
    tensorboard: bool = option(False, "also write TensorBoard events to <run>/tensorboard (needs tensorboard)")
    workers: int = option(1, "processes that load clips; 1 = this one, 0 = one per CPU core")

    def for_dataset(self, dataset: str) -> Self:
        """These options with the CLIP that `auto` means for a data set."""
        from fclip.records import RENDERED

        if self.clip != "auto":
            return self
        return dataclasses.replace(self, clip="tiny" if dataset in RENDERED else "ViT-B-16")

    def weights(self) -> list[str]:
        """The weights that the model needs, those of its CLIP among them."""
        clip = "ViT-B-16" if self.clip == "auto" else published(self.clip)
        clip = clip if clip in listed() else ""
        own = [clip if name == CLIP else name for name in super().weights() if self.clip != "tiny"]
        if self.clip_weights not in (None, "openai"):
            own = [str(self.clip_weights)]
        return [name for name in (*own, self.longclip_weights) if name in listed()]

    def train_options(self) -> TrainOptions:
        """These options alone, of a command that has more; those of the variant have become part of `set`.

        What a backbone's recipe has unlike the paper's becomes part of them, as if it had been given: it is on record
        and in the hash, while the paper's recipe stays unsaid.
        """
        from fclip.models.recipes import Recipe, recipe_of

        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainOptions)}
        given |= {"set": (*self.set, *_pairs(self.options)), "options": None}
        own, paper = recipe_of(self.variant, self.clip), recipe_of(self.variant)
        if paper:  # of these two what is unlike FineCLIPER's is told: other recipes had none of their own at first
            paper = dataclasses.replace(paper, augment=Recipe.augment, random_frames=Recipe.random_frames)
        for name in _hyper_parameters(Recipe) if own else ():
            if not self._is_given(name) and getattr(own, name) != getattr(paper, name):
                given[name] = getattr(own, name)
        return TrainOptions(**given)

    def recipe(self) -> Recipe | None:
        """The recipe that training follows: what was given, and the variant's for this backbone; None if it fits itself
        or is not trained."""
        from fclip.models.recipes import Recipe, recipe_of

        own = recipe_of(self.variant, self.clip)
        given = {name: getattr(self, name) for name in _hyper_parameters(Recipe) if self._is_given(name)}
        return dataclasses.replace(own, **given) if own else None

    def derived(self) -> dict[str, Any]:
        """For --dry-run: the hyper-parameters that come of these options."""
        chosen = self.for_dataset(getattr(self, "dataset", None) or "")
        return {} if self.variant == "list" else {"recipe": shown_recipe(chosen.recipe())}

    def _is_given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and not (value == 0 and name in ("epochs", "batch_size"))

    def build(self, classes: Sequence[str], frames: int) -> ExpressionModel:
        """The untrained model of these options."""
        from fclip.models import create_model
        from fclip.schema import parse_options

        return create_model(
            self.variant,
            clip="ViT-B-16" if self.clip == "auto" else self.clip,
            classes=classes,
            frames=frames,
            clip_weights=self.clip_weights,
            longclip_weights=self.longclip_weights,
            activation=self.activation,
            **parse_options(self.set),
        )


def shown_recipe(recipe: Recipe | None) -> JsonObject:
    """A recipe as JSON values, without what has no effect in it."""
    from fclip.schema import plain_fields

    idle = set()
    if recipe and recipe.optimizer != "sgd":
        idle.add("momentum")
    if recipe and recipe.schedule != "multistep":
        idle.add("milestones")
    return {name: value for name, value in plain_fields(recipe).items() if name not in idle} if recipe else {}


def _hyper_parameters(recipe: type[Recipe]) -> list[str]:
    """Those of a recipe that are options."""
    options = {field.name for field in dataclasses.fields(TrainOptions)}
    return [field.name for field in dataclasses.fields(recipe) if field.name in options]


def _pairs(options: Any) -> list[str]:
    """The options of a variant that are not as usual, as `set` has them: name=value."""
    return [
        f"{field.name}={_as_text(value)}"
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    ]


def _as_text(value: Any) -> str:
    """A value that `schema.parse_options` reads as itself: text as it is unless it looks like JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)

"""`fclip zeroshot`: train on one data set, test on another whose class names are the only candidates."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import config_dict, hash_of, option
from fclip.data.storage.folds import caption_facts, clip_frames, data_hash, fold_shards
from fclip.errors import FclipError, UsageError
from fclip.runner.report import StageReport
from fclip.runner.workspace import features_folder, list_shards, require_folder, run_folder
from fclip.stages.evaluate import EvaluationOptions, evaluate_model, kept_results, train_settings
from fclip.stages.train import Config as TrainConfig
from fclip.stages.train import build_model, train_run, with_flags

if TYPE_CHECKING:
    from fclip.models.base import ExpressionModel


@dataclass(frozen=True)
class Config(TrainConfig):
    """Zero-shot transfer: pre-train on one data set, test on the test parts of another.

    The candidates are the target's class names; no mapping table. `--pretrain none` tests plain CLIP. A finished run
    of the same configuration on the source is reused, else trained. Captions of the target are used only where they
    are label-blind. Testing on the data set that was trained on is reported as in-domain.

    Example:  fclip zeroshot --pretrain demo11 --test demo7 --variant dagger
              fclip zeroshot --pretrain none --test dfew --clip ViT-B-32
    """

    fold: str = option("1", "fold of --pretrain to train on; every fold of --test is tested")
    variant: str = option("dagger", "which model; with --pretrain none the variant is zeroshot-clip", output=True)
    pretrain: str = option("none", "data set to train on, or none", output=True)
    test: str | None = option(None, "data set to test on [--dataset]", output=True)
    objective: Literal["labels", "captions"] = option(
        "labels", "train on the source's labels, or on its captions alone (contrast of clip and caption)", output=True
    )
    use_captions: bool = option(
        False, "use the target's captions at test time (refused unless label-blind)", output=True
    )


def run(config: Config) -> StageReport:
    """Train or reuse the source run, then evaluate it on every fold of the target."""
    from fclip.data.storage.splits import read_classes, read_splits

    config = with_objective(with_flags(config))
    if config.fold == "all" or "," in config.fold:
        raise UsageError(f"--fold {config.fold}: name the one fold of --pretrain whose training parts are used")
    if config.input or config.out:
        raise UsageError("zeroshot reads and writes in the workspace: name it with --root, not --in or --out")
    target = config.test or config.dataset
    if not target:
        raise UsageError("name the data set to test on with --test")
    packed = require_folder(config.root / target / "packed", "packed", dataclasses.replace(config, dataset=target))
    without = tuple(config.without) + (() if config.use_captions else ("caption",))
    if config.use_captions and caption_facts(packed)["label_shown"]:
        raise FclipError(f"{packed}: its captions saw the label, so a test with them is no zero-shot test")
    classes, splits = read_classes(packed), read_splits(packed)
    in_domain = config.pretrain == target
    settings = _settings(config)
    report = StageReport("zeroshot", counts={"folds": 0})
    results = []
    for seed in config.seed:
        models: dict[str, tuple[ExpressionModel, Path | None]] = {}
        for fold in sorted(splits.folds):
            # trained on the tested data set itself, only the same fold's training parts may be used
            source_fold = fold if in_domain else config.fold
            if source_fold not in models:
                models[source_fold] = _source_model(config, classes, packed, source_fold, seed)
            model, source = models[source_fold]
            how = model.variant if config.objective == "labels" else f"{model.variant}-{config.objective}"
            name = f"{config.pretrain}-to-{target}-{how}-fold{fold}-seed{seed}"
            facts = {
                "run": name,
                "dataset": target,
                "source": config.pretrain,
                "variant": model.variant,
                "clip": config.clip,
                "fold": fold,
                "seed": seed,
                "selection": config.select,
                "set": list(config.set),
                "settings": settings,
                "without": list(without),
                "checkpoint": str(source) if source else None,
                "in_domain": in_domain,
                "objective": config.objective,
                **_inputs(config, model, source),
                "data": data_hash(packed),
            }
            options = EvaluationOptions(config.device, 16, config.workers, without, features_folder(config, target))
            shards = fold_shards(splits, packed, fold, "last").test
            report.out = config.root / "runs" / name / "eval"
            result = kept_results(report.out, facts, config.overwrite)
            result = result or evaluate_model(options, model, packed, shards, report.out, facts)
            results.append({**result, "folder": report.out.parent})
            report.counts["folds"] += 1
    return _finish(report, results, config, target)


def _settings(config: Config) -> dict[str, Any]:
    """What the source run is trained with; of plain CLIP, its weights."""
    if config.pretrain == "none":
        return {"clip_weights": config.clip_weights}
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    given = config_dict(config, output_only=True)
    return train_settings({name: value for name, value in given.items() if name in names})


def _inputs(config: Config, model: ExpressionModel, source: Path | None) -> dict[str, Any]:
    """What a result depends on beside the options: weights, class texts, and the captions of training."""
    from fclip.files import sha256_file
    from fclip.models.checkpoint import load_checkpoint

    texts = {"prompts_sha256": hash_of(model.prompts)}
    if source is None:
        return {"checkpoint_sha256": model.clip_sha256, "trained_with": None, **texts}
    checkpoint = _checkpoint(config, source)
    captions = load_checkpoint(checkpoint)[1].get("captions")
    return {"checkpoint_sha256": sha256_file(checkpoint), "trained_with": captions, **texts}


def _checkpoint(config: Config, run: Path) -> Path:
    from fclip.engine.train.run_folder import RunFolder

    return RunFolder(run).pointer("LAST" if config.select == "last" else "BEST") / "model.safetensors"


def with_objective(config: Config) -> Config:
    """The configuration with --objective captions passed on as the variant's option."""
    if config.objective == "labels" or config.pretrain == "none":
        return config
    return dataclasses.replace(config, set=(*config.set, "objective=captions"))


def _source_model(
    config: Config, classes: tuple[str, ...], packed: Path, fold: str, seed: int
) -> tuple[ExpressionModel, Path | None]:
    """The model to test, with the target's class names, and the run that its weights come from (None: plain CLIP)."""
    from fclip.models.checkpoint import load_checkpoint

    if config.pretrain == "none":
        frames = config.frames or clip_frames(list_shards(packed, ".tar", "packed")[0][0])
        variant = config.variant if config.variant.startswith("zeroshot-") else "zeroshot-clip"
        return build_model(dataclasses.replace(config, variant=variant), classes, frames), None
    there = config.root / config.pretrain / "packed"
    source = require_folder(there, "packed", dataclasses.replace(config, dataset=config.pretrain))
    variant = config.variant if config.objective == "labels" else f"{config.variant}-captions"
    out = run_folder(config, config.pretrain, variant, fold, seed)
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    train_config = TrainConfig(**{n: getattr(config, n) for n in names} | {"dataset": None})
    train_run(train_config, config.pretrain, source, fold, seed, out)
    state, metadata = load_checkpoint(_checkpoint(config, out))
    model = build_model(config, classes, metadata["frames"])
    model.load_trainable_state(state)
    return model, out


def _finish(report: StageReport, results: list[dict[str, Any]], config: Config, target: str) -> StageReport:
    from fclip.engine.evaluate.aggregate import format_table
    from fclip.stages.report import complete_rows

    report.values["results"] = rows = complete_rows(results)[0]
    kind = f"objective {config.objective}; " if config.pretrain != "none" else ""
    kind += "in-domain: trained on the data set it is tested on" if config.pretrain == target else "zero-shot"
    report.lines += [f"{config.pretrain} -> {target} ({kind}), mean over folds", *format_table(rows)]
    return report

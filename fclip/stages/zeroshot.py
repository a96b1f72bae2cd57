"""`fclip zeroshot`: train on one data set, test on another whose class names are the only candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fclip.config import CommonConfig, config_dict, hash_of, option
from fclip.data.storage.folds import caption_source, clip_frames, data_hash
from fclip.engine.fetching import provide
from fclip.engine.train.options import TrainOptions
from fclip.errors import FclipError, UsageError
from fclip.records import make_key
from fclip.registry import VARIANTS
from fclip.runner.report import StageReport
from fclip.runner.workspace import features_folder, find_dataset, list_shards, require_folder, run_folder
from fclip.schema import parse_options

if TYPE_CHECKING:
    from fclip.models.base import ExpressionModel
    from fclip.report.evaluation import Subject


@dataclass(frozen=True)
class Config(TrainOptions, CommonConfig):
    """Zero-shot transfer: pre-train on one data set, test on the test parts of another.

    The candidates are the target's class names; no mapping table. `--pretrain none` tests plain CLIP. A finished run
    of the same configuration on the source is reused, else trained. Models are tested on the frames alone unless
    --use-captions, which takes label-blind captions only. Testing on the data set that was trained on is reported as
    in-domain. Results say whose captions the source had; those of another packed folder of it are runs of their own.

    Example:  fclip zeroshot --pretrain demo11 --test demo7 --variant dagger
              fclip zeroshot --pretrain mafw --in fclip-data/mafw/packed-human --test dfew --variant emoclip
              fclip zeroshot --pretrain none --test dfew --clip ViT-B-32
    """

    fold: str = option("1", "fold of --pretrain to train on; every fold of --test is tested")
    seed: tuple[int, ...] = option((0,), "seed, or several: 0,1,2")
    variant: str = option(
        "dagger", "which model; with --pretrain none the variant is zeroshot-clip", output=True, registry=VARIANTS
    )
    pretrain: str = option("none", "data set to train on, or none", output=True)
    test: str | None = option(None, "data set to test on [--dataset, or the only one]", output=True)
    input: str | None = option(None, "packed folder of --pretrain, or its URL, instead of the workspace's", flag="--in")
    objective: Literal["labels", "captions"] | None = option(
        None,
        "train on the source's labels, or on its captions alone (contrast of clip and caption) "
        "[the variant's: labels, of emoclip captions]",
        output=True,
    )
    use_captions: bool = option(
        False, "use the target's captions at test time (refused unless label-blind)", output=True
    )
    resume: bool = option(True, "go on from the last checkpoint of the source run")

    def source_options(self) -> TrainOptions:
        """How the source run is trained; --objective is an option of its variant where that has it."""
        options = self.train_options()
        if self.pretrain == "none" or self.objective in (None, _objective(options.variant, options.set)):
            return options
        return dataclasses.replace(options, set=(*options.set, f"objective={self.objective}"))

    @property
    def learned(self) -> str:
        """What the source run is trained on: labels or captions."""
        options = self.source_options()
        return _objective(options.variant, options.set) if self.pretrain != "none" else "labels"

    @property
    def name(self) -> str:
        """The variant, with what is learned where that is not as usual for it."""
        return self.variant if self.learned == _objective(self.variant, ()) else f"{self.variant}-{self.learned}"


def _objective(variant: str, given: tuple[str, ...]) -> str:
    """What a variant with these options learns; variants without such an option learn labels."""
    return getattr(VARIANTS.make_options(variant, parse_options(given)), "objective", "labels")


def run(config: Config) -> StageReport:
    """Train or reuse the source run, then evaluate it on every fold of the target."""
    target = config.test or find_dataset(config)
    packed = require_folder(config.root / target / "packed", "packed", dataclasses.replace(config, dataset=target))
    config = config.for_dataset(target)
    provide(config.weights())
    from fclip.engine.evaluate.aggregate import format_rows, make_rows
    from fclip.report.evaluated import untrained
    from fclip.report.evaluation import EvaluationOptions, evaluate
    from fclip.schema import as_json

    if config.use_captions and caption_source(packed).label_shown:
        raise FclipError(f"{packed}: its captions saw the label, so a test with them is no zero-shot test")
    how = EvaluationOptions(config.device, 16, config.workers, features_folder(config, target))
    report = StageReport("zeroshot", counts={"folds": 0})
    evaluated = []
    for subject in subjects(config, target, packed):
        folder = config.root / "runs" / subject.facts.run
        evaluated.append(evaluate(subject, how, folder, overwrite=config.overwrite))
        report.counts["folds"] += 1
        report.out = folder / "eval"
    rows = [row for row, _ in make_rows(evaluated)]
    report.values["results"] = [as_json(row) for row in rows]
    kind = f"objective {config.learned}; " if config.pretrain != "none" else ""
    kind += "in-domain: trained on the data set it is tested on" if config.pretrain == target else "zero-shot"
    how_tested = "the target's captions are read" if config.use_captions else "no captions of the target are read"
    report.lines += [f"{config.pretrain} -> {target} ({kind}; {how_tested}), mean over folds", *format_rows(rows)]
    report.lines += untrained(evaluated)
    return report


def subjects(config: Config, target: str, packed: Path) -> Iterator[Subject]:
    """The model of every seed, for each fold of the target."""
    from fclip.data.storage.splits import read_classes, read_splits

    classes, folds = read_classes(packed), sorted(read_splits(packed).folds)
    for seed in config.seed:
        models: dict[str, tuple[ExpressionModel, Path | None]] = {}
        for fold in folds:
            # trained on the tested data set itself, only the same fold's training parts may be used
            source_fold = fold if config.pretrain == target else config.fold
            if source_fold not in models:
                models[source_fold] = source_model(config, classes, packed, source_fold, seed)
            yield _subject(config, target, packed, fold, seed, *models[source_fold])


def _subject(
    config: Config, target: str, packed: Path, fold: str, seed: int, model: ExpressionModel, source: Path | None
) -> Subject:
    """A source model on one fold of the target; `source`: the run that its weights come from, None for plain CLIP."""
    from fclip.engine.evaluate.results import RunFacts
    from fclip.engine.train.run_folder import RunFolder
    from fclip.files import sha256_file
    from fclip.models.checkpoint import read_info
    from fclip.report.evaluation import Subject, train_settings

    options = config.source_options()
    how = (model.variant if config.pretrain == "none" else config.name) + ("-with-captions" * config.use_captions)
    checkpoint = RunFolder(source).chosen(options.select) if source else None
    settings = train_settings(config_dict(options, output_only=True))
    facts = RunFacts(
        run=f"{source_name(config)}-to-{target}-{how}-fold{fold}-seed{seed}",
        dataset=target,
        source=config.pretrain,
        variant=model.variant,
        clip=options.clip,
        fold=fold,
        seed=seed,
        selection=options.select,
        set=options.set,
        settings=settings if source else {"clip_weights": options.clip_weights},
        without=(*options.without, *(() if config.use_captions else ("caption",))),
        checkpoint=str(source) if source else None,
        in_domain=config.pretrain == target,
        objective=config.learned,
        checkpoint_sha256=sha256_file(checkpoint) if checkpoint else model.clip_sha256,
        trained_with=read_info(checkpoint).captions_read if checkpoint else None,
        prompts_sha256=hash_of(model.prompts),
        data=data_hash(packed),
    )
    return Subject(facts, packed, checkpoint, lambda: model)


def source_folder(config: Config) -> Path:
    """The packed folder that is trained on: --in, or the workspace's."""
    there = config.input or config.root / config.pretrain / "packed"
    return require_folder(there, "packed", dataclasses.replace(config, dataset=config.pretrain))


def source_name(config: Config) -> str:
    """The source in names of runs; of another packed folder than the workspace's, with whose captions it has."""
    if not config.input or config.pretrain == "none":
        return config.pretrain
    folder = source_folder(config)
    return make_key(f"{config.pretrain}-{caption_source(folder).model or folder.name}")


def source_model(
    config: Config, classes: tuple[str, ...], packed: Path, fold: str, seed: int
) -> tuple[ExpressionModel, Path | None]:
    """The model to test, with the target's class names, and the run that its weights come from (None: plain CLIP)."""
    from fclip.data.storage.splits import check_classes, read_classes, read_splits
    from fclip.engine.train.job import Job
    from fclip.engine.train.run import train_run
    from fclip.engine.train.run_folder import RunFolder
    from fclip.models.checkpoint import load_checkpoint, load_model

    options = config.source_options()
    if config.pretrain == "none":
        frames = options.frames or clip_frames(list_shards(packed, ".tar", "packed")[0][0])
        variant = "zeroshot-clip" if VARIANTS.property(options.variant, "trains", True) else options.variant
        return dataclasses.replace(options, variant=variant, options=None).build(classes, frames), None
    source = source_folder(config)
    if fold not in (folds := read_splits(source).folds):
        known = ", ".join(sorted(folds))
        raise UsageError(f"--fold {fold}: {config.pretrain} has the folds {known}; name the one to train on")
    shards = list_shards(source, ".tar", "packed")
    model = options.build(classes, options.frames or clip_frames(shards[0][0]))
    if not model.open_classes:
        where = f"{packed}: variant {options.variant} has one output for each class of {config.pretrain}"
        check_classes(read_classes(source), classes, where)
    out = run_folder(config, source_name(config), config.name, fold, seed)
    job = Job(config.pretrain, source, fold, seed, features_folder(config, config.pretrain), out)
    train_run(options, job, device=config.device, overwrite=config.overwrite, resume=config.resume)
    checkpoint = RunFolder(out).chosen(options.select)
    if not model.open_classes:
        return load_model(checkpoint, options.clip_weights, options.longclip_weights, classes), out
    model.load_trainable_state(load_checkpoint(checkpoint)[0])
    return model, out

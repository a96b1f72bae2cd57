"""The example Makefiles: `make -n` of every target, and every command in it is one that fclip would run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.engine.train.options import shown_recipe
from fclip.models.recipes import recipe_of
from fclip.registry import VARIANTS
from fclip.report.published import find_table, published_methods, unusual_options
from fclip.schema import parse_options

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TARGETS = {
    "finecliper.mk": ["all", "page", "figure9"],
    "dfer-clip.mk": ["all", "extensions"],
    "overview.mk": ["table"],
    "demo.mk": ["all"],
    "real-faces.mk": ["table"],
}
OURS = {"base", "star", "dagger", "star-dagger"}
ROWS = {  # what each numbered target trains, on real data
    "finecliper.mk": {
        "table1": {"dfer-clip", "emoclip-supervised", *OURS},
        "table2": OURS,
        "table3": set(),
        "table4": {"base", "middle", "high", "star-dagger"},
        "table5": {"base", "with-parsing", "with-landmarks", "star"},
        "table6": {"dfer-clip", "text-positive", "text-both", "video-only", "base"},
        "table7": {"negative-less", "base"},
        "table8": {"star-dagger-small", "star-dagger", "star-dagger-large"},
        "table9": {"scale-0.3", "base", "scale-0.7"},
        "figure5": OURS,
        "figure6": OURS,
        "figure7": OURS,
        "figure9": set(),
        "figure8": {"star-dagger", *(f"video-0.{i}" for i in range(1, 10))},
    },
    "dfer-clip.mk": {
        "table1": {
            *(f"context-{i}-depth-0" for i in (4, 8, 16)),
            *("dfer-clip", "context-8-depth-2", "context-8-depth-3"),
        },
        "table2": {
            *("linear-probe", "finetune", "finetune-temporal", "coop", "cocoop"),
            *("context-8-depth-0", "dfer-clip"),
        },
        "table3": {
            *("a-photo-of", "an-expression-of", "class-name-depth-0", "context-8-depth-0"),
            *("class-name", "dfer-clip"),
        },
        "table4": {"middle-shared", "middle-specific", "end-shared", "dfer-clip"},
        "table5": {"r3d-18", "r2plus1d-18", "resnet18-lstm", "resnet18-vit", "dfer-clip"},
        "grid": {f"context-{c}-depth-{d}" if (c, d) != (8, 1) else "dfer-clip" for c in (4, 8, 16) for d in range(4)},
    },
}
NEEDED = {"real-faces.mk": [f"SOURCE={__file__}"]}  # settings without which a file makes nothing
REAL = ["DATASET=dfew", "SOURCE.dfew=/data/DFEW", "FOLDS=1 2", "SEEDS=0"]
CASES = [
    (file, target, settings)
    for file, targets in TARGETS.items()
    for target in targets
    for settings in ([], REAL)
    if not (settings and file in ("demo.mk", "real-faces.mk"))
]
RATES = dict.fromkeys(("base", "star", "dagger", "star-dagger"), 0.002) | {
    "dfer-clip": 0.0001,
    "linear-probe": 0.01,
    "coop": 0.003,
    "cocoop": 0.03,
}  # on tiny, as the README's figures were made
runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def make(file: str, target: str, *settings: str, root: Path) -> list[list[str]]:
    """The fclip commands of `make -n`, split into words."""
    command = ["make", "-n", "-f", str(EXAMPLES / file), target, f"ROOT={root}", *settings, *NEEDED.get(file, [])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "FCLIP_"))}
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    lines = result.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("fclip ")]


def shape(words: list[str]) -> tuple[str, ...]:
    """A command without what differs between folds and seeds only."""
    return tuple(re.sub(r"fold\d-seed\d", "", word) for word in words)


@pytest.mark.parametrize(("file", "target", "settings"), CASES, ids=lambda v: v if isinstance(v, str) else str(len(v)))
def test_every_command_of_every_target_is_valid(file, target, settings, tmp_path):
    commands = make(file, target, *settings, root=tmp_path)
    assert commands
    seen = set()
    for words in commands:
        if shape(words) in seen:
            continue
        seen.add(shape(words))
        result = runner.invoke(app, [*words, "--dry-run"])
        assert result.exit_code == 0, f"fclip {shlex.join(words)}: {result.output}"
        config = json.loads(result.output)["config"]
        if words[0] in ("train", "zeroshot"):
            variant = config["variant"]
            if words[0] == "zeroshot" and config["pretrain"] == "none" and not variant.startswith("zeroshot-"):
                variant = "zeroshot-clip"
            VARIANTS.make_options(variant, parse_options(tuple(config["set"])))
        if words[0] == "report" and config["table"]:
            find_table(config["table"])


NUMBERED = [(file, target) for file, targets in ROWS.items() for target in targets]


@pytest.mark.parametrize(("file", "target"), NUMBERED, ids=lambda v: v)
def test_each_numbered_target_has_the_rows_of_the_papers_table_under_its_number(file, target, tmp_path):
    """The runs that it trains, and the table that it reports: all of the paper's rows that fclip can run."""
    commands = make(file, target, *REAL, "FOLDS=1", root=tmp_path)
    trained = [Path(w[w.index("--out") + 1]).name for w in commands if w[0] == "train"]
    rows = [name.removeprefix("dfew-").removesuffix("-fold1-seed0") for name in trained]
    assert sorted(rows) == sorted(ROWS[file][target])
    tables = [find_table(w[w.index("--table") + 1]) for w in commands if w[0] == "report" and "--table" in w]
    if target.startswith("table"):
        (table,) = tables
        assert f", Table {target[-1]}: " in table.title
        methods = published_methods()
        needed = {id(row.method) for row in table.rows if row.method and row.method.source is None}
        assert needed == {id(methods[name]) for name in ROWS[file][target]}


@pytest.mark.parametrize("file", ["finecliper.mk", "dfer-clip.mk"])
def test_rows_are_the_published_methods_with_their_options(file, tmp_path):
    """A row's name, variant and options are those of resources/published.json, so that results find their table."""
    methods = published_methods()
    rows = {}
    targets = ["all", "extensions"] if file == "dfer-clip.mk" else ["all"]
    for words in [words for target in targets for words in make(file, target, *REAL, "FOLDS=1", root=tmp_path)]:
        if words[0] == "train":
            config = json.loads(runner.invoke(app, [*words, "--dry-run"]).output)["config"]
            rows[Path(config["out"]).name.removeprefix("dfew-").removesuffix("-fold1-seed0")] = config
    assert len(rows) > 15
    for name, config in rows.items():
        method = methods[name]
        assert (config["variant"], method.clip or config["clip"]) == (method.variant, config["clip"]), name
        options = unusual_options(method.variant, parse_options(tuple(config["set"])))
        options = {option: value for option, value in options.items() if option not in method.open}
        assert options == unusual_options(method.variant, method.set), name


@pytest.mark.parametrize(
    ("file", "target", "dataset", "folds", "runs"),
    [
        ("finecliper.mk", "table1", "dfew", 5, 6 * 15),
        ("finecliper.mk", "table1", "ferv39k", 1, 6 * 3),
        ("dfer-clip.mk", "table1", "mafw", 5, 6 * 15),
        ("finecliper.mk", "table1", "demo7", 1, 6),
    ],
)
def test_real_data_get_five_folds_and_three_seeds(file, target, dataset, folds, runs, tmp_path):
    commands = [words for words in make(file, target, f"DATASET={dataset}", root=tmp_path) if words[0] == "train"]
    assert len(commands) == runs
    assert len({words[words.index("--out") + 1] for words in commands}) == runs
    assert {words[words.index("--fold") + 1] for words in commands} == set(map(str, range(1, folds + 1)))


def test_real_data_keep_all_frames_and_train_on_sixteen_drawn_anew(tmp_path):
    for target in ("table1", "table3"):
        commands = make("finecliper.mk", target, "DATASET=dfew", "FOLDS=1", "SEEDS=0", root=tmp_path)
        for words in commands:
            if words[0] in ("train", "zeroshot"):
                config = json.loads(runner.invoke(app, [*words, "--dry-run"]).output)["config"]
                assert config["frames"] == 16, words
            if words[0] == "preprocess":
                assert words[words.index("--frames") + 1] == "all"


def test_every_published_table_has_a_target(tmp_path):
    from fclip.report.published import published_tables

    named = {
        words[words.index("--table") + 1]
        for file, target in (("finecliper.mk", "all"), ("dfer-clip.mk", "all"), ("dfer-clip.mk", "extensions"))
        for words in make(file, target, root=tmp_path)
        if words[0] == "report" and "--table" in words
    }
    assert named == set(published_tables())


def test_finished_stages_and_runs_are_not_made_again(tmp_path):
    (tmp_path / "demo7" / "packed").mkdir(parents=True)
    (tmp_path / "demo7" / "packed" / "manifest.json").write_text("{}")
    done = tmp_path / "runs" / "demo7-base-fold1-seed0" / "done.json"
    done.parent.mkdir(parents=True)
    done.write_text("{}")
    commands = make("finecliper.mk", "negative-word", root=tmp_path)
    assert [words[0] for words in commands] == ["train", "eval", "report"]
    assert "negative_word=less" in commands[0]


def script(name: str, *arguments: str, **variables: str) -> list[str]:
    """Run an example script with an echo in fclip's place; the words of the command that it would run."""
    environment = {"PATH": os.environ["PATH"], "FCLIP": "echo fclip", "TORCHRUN": "echo torchrun", **variables}
    command = ["bash", str(EXAMPLES / name), *arguments]
    return shlex.split(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def test_slurm_array_covers_folds_and_seeds():
    pairs = set()
    for index in range(15):
        words = script("slurm-array.sh", "--clip", "tiny", SLURM_ARRAY_TASK_ID=str(index), SLURM_ARRAY_TASK_COUNT="15")
        config = json.loads(runner.invoke(app, [*words[1:], "--dry-run"]).output)["config"]
        pairs.add((config["fold"], config["seed"][0]))
    assert pairs == {(str(fold), seed) for fold in range(1, 6) for seed in range(3)}
    words = script("slurm-array.sh", STAGE="caption", SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="8")
    config = json.loads(runner.invoke(app, [*words[1:], "--dry-run"]).output)["config"]
    assert (config["shard_index"], config["num_shards"]) == (2, 8)


def test_torchrun_example_starts_the_train_command():
    words = script("torchrun.sh", "--variant", "base", "--clip", "tiny", GPUS="4")
    assert words[:6] == ["torchrun", "--standalone", "--nproc-per-node", "4", "-m", "fclip"]
    result = runner.invoke(app, [*words[6:], "--dry-run"])
    assert json.loads(result.output)["config"]["variant"] == "base"
    several = script("torchrun.sh", "--variant", "base", NODES="2", RENDEZVOUS="first:29500")
    assert several[1:7] == ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "first:29500"]


def test_overview_trains_every_method_with_steps_for_its_clip_model(tmp_path):
    """The tiny CLIP gets its own steps, by variant; real data get the papers'. Every run, then plain CLIP, is reported."""
    wanted = {"signals", "linear-probe", "coop", "cocoop", "dfer-clip", "base", "star", "dagger", "star-dagger"}
    for settings, tiny in (([], True), (["DATASET=dfew"], False)):
        commands = make("overview.mk", "table", "SEEDS=0", *settings, root=tmp_path)
        trained = {}
        for words in commands:
            if words[0] == "train" and words[words.index("--fold") + 1] == "5":
                shown = json.loads(runner.invoke(app, [*words, "--dry-run"]).output)
                trained[shown["config"]["variant"]] = shown
        assert set(trained) == wanted
        for variant, shown in trained.items():
            if tiny and variant != "signals":  # which fits itself
                assert [shown["recipe"][name] for name in ("lr", "epochs", "batch_size")] == [RATES[variant], 8, 8]
            elif not tiny:
                assert shown["recipe"] == json.loads(json.dumps(shown_recipe(recipe_of(variant)))), variant
            assert shown["config"]["select"] == "last" and shown["config"]["lr"] is None
        assert trained["dfer-clip"]["recipe"]["optimizer"] == "sgd", "as in its paper"
        folders = {words[words.index("--out") + 1] for words in commands if words[0] == "train"}
        assert len(folders) == 9 * 5
        reports = [words for words in commands if words[0] == "report"]
        assert all(folders < set(words) for words in reports)
        assert all(any("none-to-" in word for word in words) for words in reports)

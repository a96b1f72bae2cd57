"""The command line: help everywhere, no heavy imports, one-line errors with the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fclip.cli.app import COMMANDS, app

runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from fclip.cli.app import app; import fclip; app(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'numpy', 'h5py', 'av', 'PIL', 'open_clip', 'transformers', 'webdataset', 'nltk', 'sklearn', 'rich'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


def test_quiet_prints_errors_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    path = tmp_path / "classes.json"
    path.write_text('["anger", "fear"]')
    assert runner.invoke(app, ["inspect", str(path), "--quiet"]).output == ""
    missing = runner.invoke(app, ["inspect", "nowhere", "--quiet"])
    assert missing.exit_code == 1 and missing.output.startswith("fclip inspect: nowhere: no such file")


def test_progress_in_a_log_file_is_lines(capsys, monkeypatch):
    """Where stderr is no terminal: a line now and then, none in the first seconds."""
    from fclip.runner import progress

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with progress.progress_bar(3, "short", "clip") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.progress_bar(4, "frames", "clip") as bar:
        for _ in range(4):
            bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4 and all(line.startswith("frames: ") for line in lines)
    assert any(line.startswith("frames: 2 of 4 clips, ") for line in lines)


def test_doctor_says_what_is_here_and_what_is_not(monkeypatch, tmp_path):
    from fclip.cli import doctor

    for name in ("FCLIP_WEIGHTS", "FCLIP_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    result = runner.invoke(app, ["doctor", "--dataset", "dfew", "--root", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    for part in (
        "fclip 0.1",
        "cpu (",
        "h264",
        "ViT-B-16: missing (598 MB); fclip fetch ViT-B-16",
        "11,697 clips, about",
    ):
        assert part in result.output
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    broken = runner.invoke(app, ["doctor"])
    assert broken.exit_code == 1 and "PROBLEM: no-such-library is not installed" in broken.output


def test_what_is_wrong_or_missing_is_told_before_torch_is_loaded(tmp_path):
    """Loading torch takes seconds: names, paths, earlier stages and weights are looked at first."""
    (tmp_path / "x.mp4").touch()
    lines = [
        "train --variant star-dager",
        "train --dataset dfew",
        "train",
        "zeroshot --test dfew",
        "eval",
        "eval nowhere",
        "report",
        "predict x.mp4 --classes a,b",
        "predict nowhere.mp4",
        "caption --mllm video-llava --in .",
        "face-analyze --backend facexformer --in .",
        "preprocess --dataset folder --source nowhere",
        "convert a b --from openaii",
        "fetch ViT-B-61",
        "refine",
    ]
    code = (
        "import sys; from typer.testing import CliRunner; from fclip.cli.app import app\n"
        f"for line in {lines!r}:\n"
        "    code = CliRunner().invoke(app, line.split()).exit_code\n"
        "    if 'torch' in sys.modules or code not in (1, 2): sys.exit(f'{line}: {code}')"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_commands_that_need_no_torch_never_load_it(workspace, tmp_path):
    """Loading torch takes seconds and hundreds of megabytes, in every worker."""
    lines = [
        f"{command} --dataset demo7 --root {workspace} --out {tmp_path / command.split()[0]} --workers 1"
        for command in ("preprocess --limit 4 --frames 4", "caption", "refine", "pack")
    ]
    code = (
        "import sys; from typer.testing import CliRunner; from fclip.cli.app import app\n"
        "from fclip.engine.batches.devices import device_for; from fclip.registry import FACE_BACKENDS\n"
        "assert device_for(FACE_BACKENDS, 'mediapipe', 'auto') == ('cpu', 'cpu')\n"
        f"for line in {lines!r}:\n"
        "    done = CliRunner().invoke(app, line.split())\n"
        "    if 'torch' in sys.modules or done.exit_code: sys.exit(f'{line}: {done.output}')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_an_example(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"fclip {command}" in result.output


def test_what_libraries_log_does_not_bury_the_error(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"")
    command = [sys.executable, "-m", "fclip", "predict", "x.mp4", "--classes", "bored,confused"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and "fclip fetch ViT-B-16" in done.stderr


def test_version_and_bare_command():
    assert runner.invoke(app, ["--version"]).output.startswith("fclip ")
    assert runner.invoke(app, []).exit_code == 2


def test_dry_run_prints_the_resolved_configuration(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[train]\nvariant = 'star'\nlr = 0.5\n")
    result = runner.invoke(app, ["train", "--config", str(file), "--lr", "0.25", "--dry-run", "--seed", "1,2"])
    config = json.loads(result.output)["config"]
    assert (config["variant"], config["lr"], config["seed"]) == ("star", 0.25, [1, 2])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--no-such-option"], 2, "No such option"),
        (["preprocess", "--crop", "magic", "--dataset", "demo7"], 2, "unknown face back end 'magic'"),
        (["trian"], 2, "did you mean train?"),
        (["train", "--variant", "star-dager"], 2, "did you mean star-dagger"),
        (["train", "--epochs", "many"], 2, "--epochs: epochs = 'many' is not a valid int"),
        (["train", "--select", "first"], 2, "choose one of last, val, best-on-test"),
        (["train", "--variant", "star", "--set", "scael=1"], 2, "did you mean scale"),
        (["caption", "--mllm", "templat"], 2, "did you mean template?"),
        (["caption", "--max-tokens", "50"], 2, "is an option of captioner openai, video-llava"),
        (["caption", "--mllm", "openai", "--media", "gif"], 2, "choose one of images, video"),
        (["preprocess", "--dataset", "dfew", "--folds", "3"], 2, "option of data set crema-d, ravdess, folder"),
        (["refine", "--seed", "5"], 2, "No such option"),
        (["train", "--config", "missing.toml"], 2, "no such configuration file"),
        (["train"], 2, "holds no data set"),
        (["train", "--dataset", "demo7"], 1, "fclip synth --dataset demo7"),
        (["preprocess", "--dataset", "demo7"], 1, "fclip synth --dataset demo7"),
        (["preprocess", "--dataset", "dfew"], 2, "--source"),
        (["preprocess", "--dataset", "nonsense", "--source", "."], 2, "unknown data set"),
        (["face-analyze", "--dataset", "demo7"], 1, "fclip synth --dataset demo7"),
        (["refine", "--dataset", "demo11"], 1, "fclip synth --dataset demo11"),
        (["pack", "--dataset", "dfew"], 1, "fclip preprocess --dataset dfew --source FOLDER"),
        (["eval"], 1, "fclip synth"),
        (["report"], 1, "fclip synth"),
        (["predict", "x.mp4"], 1, "no such file or folder"),
        (["predict", "x.mp4", "--checkpoint", "nowhere"], 1, "no such file"),
        (["zeroshot"], 2, "holds no data set"),
        (["zeroshot", "--test", "dfew"], 1, "fclip preprocess --dataset dfew --source FOLDER"),
        (["convert", "a", "b", "--from", "openaii"], 2, "did you mean openai?"),
        (["inspect", "nowhere"], 1, "no such file"),
    ],
)
def test_errors_are_one_line_with_the_remedy(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("fclip ")]
    assert len(lines) <= 1
    assert not list(tmp_path.iterdir())


def test_help_shows_the_options_of_the_chosen_thing_only():
    plain, openai = (runner.invoke(app, ["caption", *more, "--help"]).output for more in ([], ["--mllm=openai"]))
    assert "--base-url" in openai and "Options of --mllm openai" in openai
    assert "--base-url" not in plain


def test_options_of_a_thing_come_from_file_and_environment_too(tmp_path, monkeypatch):
    file = tmp_path / "c.toml"
    file.write_text("seed = 3\n[caption]\nmllm = 'openai'\nbase-url = 'http://localhost:1/v1'\nmax-tokens = 7\n")
    monkeypatch.setenv("FCLIP_MAX_TOKENS", "9")
    command = ["caption", "--config", str(file), "--model", "m", "--dry-run"]
    config = json.loads(runner.invoke(app, command).output)["config"]
    assert (config["mllm"], config["options"]["max_tokens"], config["options"]["model"]) == ("openai", 9, "m")
    other = json.loads(runner.invoke(app, ["caption", "--config", str(file), "--mllm", "template", "--dry-run"]).output)
    assert other["config"]["options"] == {}, "what a file holds for another captioner is not used"


@pytest.mark.parametrize(
    ("variable", "message"),
    [("FCLIP_VARIENT", "did you mean FCLIP_VARIANT"), ("FCLIP_MAX_TOKEN", "did you mean FCLIP_MAX_TOKENS")],
)
def test_misspelt_variables_are_told(variable, message, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "x")
    result = runner.invoke(app, ["eval", "--root", str(tmp_path)])
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize(
    "variable", ["FCLIP_MODELS", "FCLIP_WEIGHTS", "FCLIP_CACHE", "FCLIP_EPOCHS", "FCLIP_MAX_TOKENS"]
)
def test_variables_of_other_uses_and_commands_are_left_alone(variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "1")
    assert "fclip synth" in runner.invoke(app, ["eval", "--root", str(tmp_path)]).output


def test_options_of_a_variant_are_those_of_set():
    from fclip.stages.train import Config

    command = [
        "train",
        "--variant",
        "star",
        "--scale",
        "0.3",
        "--no-video-adapters",
        "--negative-word",
        "5",
        "--dry-run",
    ]
    given = json.loads(runner.invoke(app, command).output)["config"]
    options = Config(variant="star", options=given["options"], set=("tau=0.02",)).train_options()
    assert options.set == ("tau=0.02", 'negative_word="5"', "video_adapters=false", "scale=0.3")
    assert options.train_options() == options
    assert "--temporal is an option of variant finetune" in runner.invoke(app, ["train", "--temporal"]).output

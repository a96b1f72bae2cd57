"""The table of backbones: counted again on the meta device, listed, and the same in the documentation."""

from __future__ import annotations

import json
from typing import Any

import open_clip
import pytest
import torch
from small_clip import CLASSES
from small_towers import add_tower
from test_finecliper_identity import check_identity
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.files import resource_json
from fclip.models import create_model
from fclip.models.backbone.building import refusal
from fclip.models.backbone.tokenizer import HubTokenizer
from tests.models.backbone_facts import DOCS, facts, table

ROWS: dict[str, dict[str, Any]] = resource_json("backbones.json")
ONE_EACH = ["RN50", "ViT-B-16", "ViT-B-16-SigLIP2", "PE-Core-B-16", "EVA02-B-16", "ViTamin-S"]
OTHERS = [name for name in ROWS if name not in ONE_EACH]
runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def test_at_least_110_of_open_clips_models_can_be_used() -> None:
    assert set(ROWS) == {name for name in open_clip.list_models() if not name.startswith("fclip-")}  # those of tests
    refused = {name: reason for name in ROWS if (reason := refusal(open_clip.get_model_config(name)))}
    assert {name: row["refused"] for name, row in ROWS.items() if "refused" in row} == refused
    adapted = [name for name, row in ROWS.items() if "star-dagger" in row]
    assert len(ROWS) - len(refused) == 131 and len(adapted) >= 100
    assert (ROWS["ViT-B-16"]["base"], ROWS["ViT-B-16"]["star-dagger"]) == (13_824_768, 20_225_152)


@pytest.mark.parametrize("name", [*ONE_EACH, *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)])
def test_the_counts_are_exact(name: str) -> None:
    assert facts(name) == ROWS[name]


def test_the_documentation_has_the_same_table() -> None:
    assert DOCS.read_text().splitlines()[-len(table(ROWS)) :] == table(ROWS)


def test_the_list_of_clips() -> None:
    shown = [" ".join(line.split()) for line in runner.invoke(app, ["train", "--clip", "list"]).output.splitlines()]
    assert len(shown) == len(ROWS) + 3 and shown[0].startswith("family model M param. image px text tokens variants")
    assert "PE-Core PE-Core-B-16 448 224 32 all Apache 2.0 -" in shown
    assert "CLIP ViT-B-16 150 224 77 all MIT -" in shown
    assert "ResNet RN50 102 224 77 frozen features only MIT -" in shown
    assert any(line.startswith("CoCa coca_ViT-B-32 - - - none: it is CoCa") for line in shown)


def test_the_speed_of_those_asked_for_is_measured() -> None:
    name = add_tower("siglip")
    rows = json.loads(runner.invoke(app, ["train", "--clip", f"list:{name}", "--json", "--device", "cpu"]).output)
    [row] = rows["clip"]
    assert row["name"] == name and row["ms"] >= 0 and row["variants"] == "not counted"
    refused = runner.invoke(app, ["train", "--clip", "list:ViT-B-61"])
    assert refused.exit_code == 2


@pytest.mark.full
@pytest.mark.parametrize("name", ["PE-Core-B-16", "ViT-B-16-SigLIP2", "EVA02-B-16"])
def test_untrained_is_the_plain_model_at_full_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights; random ids in place of a tokenizer that only the hub has."""

    def ids(self: HubTokenizer, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(1, 30_000, (len(texts), context_length or self.context_length), generator=generator)

    monkeypatch.setattr(HubTokenizer, "__call__", ids)
    monkeypatch.setattr(HubTokenizer, "words", lambda self, text: [1] * len(text.split()))
    monkeypatch.setattr(HubTokenizer, "frame", ([], [1], 0))
    torch.manual_seed(0)
    check_identity(create_model("star-dagger", name, CLASSES, 2, "random"), clips=1)

"""Names, options and batches: what is accepted, what each switch does, and errors that say what to do."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from small_clip import CLASSES, FRAMES, SMALL, VARIANTS, build, make_batch

from fclip.errors import FclipError, UsageError
from fclip.models import create_model
from fclip.models.backbone.encode import encode_text
from fclip.models.finecliper.model import label_prompts
from fclip.models.recipes import recipe_of
from fclip.registry import VARIANTS as KNOWN


def test_every_variant_is_registered_under_its_functions_name() -> None:
    assert set(VARIANTS) < set(KNOWN.names())
    for variant in VARIANTS:
        model = build(variant)
        assert (model.variant, model.classes, model.frames, model.clip_name) == (variant, CLASSES, FRAMES, SMALL)
        assert (model.preprocess.image_size, model.preprocess.resize) == (32, "squash")
        recipe = recipe_of(variant, "ViT-L-14")
        assert recipe and (recipe.optimizer, recipe.lr, recipe.epochs) == ("sgd", 3e-4, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "star-daggr"}, r"unknown variant 'star-daggr'; did you mean star-dagger.*there are: base, star"),
        (
            {"negativ_word": "less"},
            r"variant star-dagger: unknown option 'negativ_word'; did you mean negative_word\?",
        ),
        ({"frobnicate": 1}, "unknown option 'frobnicate'; there are: resize, text_adapters"),
        ({"text_adapters": "all"}, "text_adapters = 'all'; choose one of none, positive, both"),
        ({"scale": "big"}, "variant star-dagger: scale = 'big' is not a valid float"),
        ({"scale": True}, "scale = True is not a valid float"),
        ({"video_adapters": 1}, "video_adapters = 1 is not a valid bool"),
        ({"fusion_weights": [1, "a"]}, r"fusion_weights = .*is not a valid list\[float\]"),
        ({"fusion_weights": [1.0]}, "fusion_weights must be 4 numbers >= 0, not all 0, for frames, parsing, landmarks"),
        ({"fusion_weights": [0, 0, 0, 0]}, "fusion_weights must be 4 numbers"),
        ({"fusion_weights": "video=1.3"}, r"fusion_weights=video=1.3: write MODALITY=SHARE, of several .*frames, pars"),
        ({"fusion_weights": "audio=0.3"}, "fusion_weights=audio=0.3: write MODALITY=SHARE"),
        ({"fusion_weights": "video"}, "fusion_weights=video: write MODALITY=SHARE"),
        ({"variant": "base", "fusion_weights": "video=0.3"}, "fusion_weights=video=0.3: write MODALITY=SHARE"),
        ({"tau": 0}, "option tau must be greater than 0, got 0"),
        ({"face_adapter_ratio": 0}, "face_adapter_ratio must be greater than 0"),
        ({"variant": "base", "parsing": True}, "variant base has no parsing to switch on, only frames"),
        ({"variant": "base", "frames_level": False}, "switch off all modalities of variant base"),
        ({"classes": ["a"]}, "classes must be two or more different names"),
        ({"classes": ["a", "a"]}, "class 'a' comes twice"),
        ({"frames": 0}, "frames must be at least 1"),
    ],
)
def test_errors_say_what_is_wrong_and_what_there_is(arguments: dict[str, Any], message: str) -> None:
    given = {"variant": "star-dagger", "clip": SMALL, "classes": CLASSES, "frames": 2, "clip_weights": "random"}
    with pytest.raises(UsageError, match=message):
        create_model(**{**given, **arguments})


@pytest.mark.parametrize(
    ("variant", "options", "modalities"),
    [
        ("base", {}, ("frames",)),
        ("star", {"frames_level": False}, ("parsing", "landmarks")),
        ("star", {"frames_level": False, "landmarks": False}, ("parsing",)),
        ("star", {"parsing": False}, ("frames", "landmarks")),
        ("dagger", {"frames_level": False}, ("caption",)),
        ("star-dagger", {"frames_level": False, "landmarks": False}, ("parsing", "caption")),
        ("star-dagger", {}, ("frames", "parsing", "landmarks", "caption")),
    ],
)
def test_any_subset_of_levels_runs_and_trains(
    variant: str, options: dict[str, Any], modalities: tuple[str, ...]
) -> None:
    model = build(variant, trained=True, **options)
    assert model.modalities == modalities
    batch = make_batch(model, clips=3)
    output = model(batch)
    assert output.modalities == modalities and tuple(output.modality_logits) == modalities
    assert output.weights.shape == (3, len(modalities)) and output.logits.shape == (3, len(CLASSES))
    output.loss.backward()
    assert all(bool(p.grad.any()) for p in model.adapters.parameters())
    unlabelled = {k: v for k, v in batch.items() if k != "labels"}
    assert model(unlabelled).loss is None
    assert torch.equal(model(unlabelled).logits, output.logits)


def test_a_modality_the_batch_lacks_is_left_out_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    model, reduced = build("star-dagger", trained=True).eval(), build("star", trained=False).eval()
    reduced.load_trainable_state({k: v for k, v in model.trainable_state().items() if k != "proj.caption"})
    batch = make_batch(model)
    without = {k: v for k, v in batch.items() if k != "captions"}
    with caplog.at_level(logging.WARNING), torch.no_grad():
        output = model(without)
        model(without)
        assert model(batch).modalities == model.modalities
        expected = reduced(without)
    assert output.modalities == ("frames", "parsing", "landmarks")
    assert torch.equal(output.logits, expected.logits) and torch.equal(output.weights, expected.weights)
    assert [r.getMessage() for r in caplog.records] == [
        "no caption in the batch: it is left out of the fusion, which uses frames, parsing, landmarks"
    ]


def test_a_batch_that_does_not_fit_is_refused() -> None:
    model = build("star")
    with pytest.raises(FclipError, match="holds none of frames, parsing, landmarks"):
        model({"labels": torch.zeros(2)})
    with pytest.raises(FclipError, match=r"'frames'\] has shape \(2, 4, 3, 32, 32\), expected \(B, 3, 3, 32, 32\)"):
        model({"frames": torch.zeros(2, 4, 3, 32, 32)})
    with pytest.raises(FclipError, match=r"batch\['parsing'\] has shape"):
        model({"frames": torch.zeros(2, 3, 3, 32, 32), "parsing": torch.zeros(2, 3, 32, 32)})
    with pytest.raises(FclipError, match="takes no captions"):
        model.caption_features(torch.zeros(1, 5).long())


def test_cached_caption_features_equal_captions() -> None:
    model = build("dagger", trained=True).eval()
    batch = make_batch(model)
    features = model.caption_features(batch["captions"])
    cached = {**{k: v for k, v in batch.items() if k != "captions"}, "caption_features": features}
    assert torch.equal(model(cached).logits, model(batch).logits)


def test_fixed_weights_are_scaled_to_the_modalities_present() -> None:
    model = build("dagger", trained=True, fusion_weights=[3.0, 1]).eval()
    batch = make_batch(model)
    output = model(batch)
    assert torch.equal(output.weights, torch.tensor([[0.75, 0.25]] * 2))
    mixed = 0.75 * output.features["frames"] + 0.25 * output.features["caption"]
    torch.testing.assert_close(output.features["fused"], mixed)
    del batch["captions"]
    assert torch.equal(model(batch).weights, torch.ones(2, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.7},
        {"negative_word": "less"},
        {"fusion_normalize": True},
        {"tau": 0.07},
        {"text_adapter_position": "after"},
    ],
    ids=str,
)
def test_a_switch_changes_the_result(options: dict[str, Any]) -> None:
    plain, switched = build("star", trained=True).eval(), build("star", trained=True, **options).eval()
    batch = make_batch(plain)
    assert not torch.allclose(plain(batch).logits, switched(batch).logits)


def test_prompts_are_the_papers() -> None:
    assert label_prompts(("happiness", "fear")) == {
        "positive": ["A person with an expression of happiness.", "A person with an expression of fear."],
        "negative": ["A person with an expression of no happiness.", "A person with an expression of no fear."],
    }


def test_label_texts_are_encoded_once_per_run_and_never_stale() -> None:
    model = build("base", trained=True).eval()
    calls: list[int] = []
    model.clip.ln_final.register_forward_hook(lambda *_: calls.append(1))
    batch = make_batch(model)
    with torch.no_grad():
        first = model(batch).logits
        assert torch.equal(model(batch).logits, first) and len(calls) == 1
        model.adapters["text"]["positive"].blocks[0].up.weight.add_(0.1)  # as an optimizer does
        assert not torch.equal(model(batch).logits, first) and len(calls) == 2
        model.load_trainable_state(build("base", trained=True).trainable_state())
        assert torch.equal(model(batch).logits, first) and len(calls) == 3
        model.train()(batch)
        model(batch)
        assert len(calls) == 5
    model.eval()(batch).loss.backward()
    assert len(calls) == 6


@pytest.mark.parametrize(("given", "weights"), [("video=0.4", [0.4, 0.2, 0.2, 0.2]), ("caption=1", [0.0, 0, 0, 1])])
def test_the_weight_of_one_modality_is_fixed_and_the_rest_split_evenly(given: str, weights: list[float]) -> None:
    model = build("star-dagger", trained=True, fusion_weights=given).eval()
    output = model(make_batch(model))
    torch.testing.assert_close(output.weights, torch.tensor([weights] * 2))
    features = torch.stack([output.features[name] for name in output.modalities], dim=1)
    torch.testing.assert_close(output.features["fused"], (torch.tensor(weights)[:, None] * features).sum(1))


@pytest.mark.parametrize(("adapters", "polarities"), [("both", ["positive"]), ("none", [])])
def test_positive_texts_alone_are_cosines_without_the_negative_term(adapters: str, polarities: list[str]) -> None:
    """Table 6, "pos": neither negative texts nor adapters for them; the positive ones as with both."""
    model = build("star", trained=True, texts="positive", text_adapters=adapters).eval()
    assert list(model.adapters["text"]) == polarities and set(model.prompts) == {"positive"}
    output, (positive, negative) = model(make_batch(model)), model.label_features()
    assert negative is None
    cosines = torch.nn.functional.cosine_similarity(output.features["frames"][:, None], positive[None], dim=-1)
    torch.testing.assert_close(output.modality_logits["frames"], cosines / model.settings.tau)
    assert sum(p.numel() for p in model.adapters["text"].parameters()) * (2 if polarities else 1) == sum(
        p.numel() for p in build("star", text_adapters=adapters).adapters["text"].parameters()
    )
    both = build("star", text_adapters=adapters).eval()
    both.load_trainable_state({**both.trainable_state(), **model.trainable_state()})
    torch.testing.assert_close(both.label_features()[0], positive)


def test_label_features_of_frozen_texts_equal_clip() -> None:
    model = build("base", text_adapters="none")
    assert "text.positive.blocks.0.up.weight" not in model.trainable_state()
    torch.testing.assert_close(torch.cat(model.label_features()), encode_text(model.clip, model.label_tokens))

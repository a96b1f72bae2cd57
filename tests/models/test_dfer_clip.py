"""DFER-CLIP: against plain CLIP, against straightforward renderings of its parts, and through a training step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fclip.errors import FclipError, UsageError
from fclip.models import create_model, load_model
from fclip.models.backbone.clip import load_clip
from fclip.models.baselines.descriptions import class_texts, read_descriptions
from fclip.models.baselines.prompt_learner import PromptLearner, place_context
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.checkpoint import save_checkpoint
from fclip.models.recipes import recipe_of

CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_model("dfer-clip", "tiny", CLASSES, 4, "random", **options)


def batch(clips: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    squares = torch.randn(clips * 4, 3, 5, 5, generator=generator)  # coarse patterns: clips that differ
    frames = F.interpolate(squares, size=80).unflatten(0, (clips, 4))
    return {"frames": frames, "labels": torch.arange(clips) % len(CLASSES)}


def test_tunable_parameters_on_vit_b_32() -> None:
    model = create_model("dfer-clip", "ViT-B-32", CLASSES, 16, "random")
    assert sum(p.numel() for p in model.trainable_state().values()) == 89_988_352


# -- the parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["description", "class-name", "a-photo-of", "an-expression-of"])
def test_without_context_and_temporal_model_it_is_plain_clip(mode: str) -> None:
    model = make(context=0, temporal_layers=0, text_mode=mode)
    plain = load_clip("tiny", "random")
    inputs = batch()
    with torch.no_grad():
        images = plain.model.encode_image(inputs["frames"].flatten(0, 1)).unflatten(0, (2, 4))
        texts = plain.model.encode_text(plain.tokenizer(class_texts(CLASSES, mode)))
        assert torch.allclose(model.frame_features(inputs["frames"]), images, atol=1e-5)
        assert torch.allclose(model.text_features(), texts, atol=1e-5)
        logits = 100 * F.cosine_similarity(images.mean(1)[:, None], texts[None], dim=-1)
        output = model(inputs)
    assert torch.allclose(output.logits, logits, atol=1e-3)
    assert torch.allclose(output.loss, F.cross_entropy(logits, inputs["labels"]), atol=1e-3)
    assert output.modalities == ("frames",) and output.weights.tolist() == [[1.0], [1.0]]
    assert "prompt_learner.ctx" not in model.trainable_state()


class PlainTemporal(nn.Module):
    """The temporal transformer written out: full attention for all tokens, no shortcuts."""

    def __init__(self, ours: TemporalTransformer) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, frames: Tensor) -> Tensor:
        ours: Any = self.ours
        x = torch.cat([ours.class_token.expand(len(frames), 1, -1), frames], dim=1)
        x = x + ours.positions[:, : x.shape[1]]
        for block in ours.blocks:
            y = block.norm_attention(x)
            q, k, v = (
                part.reshape(*part.shape[:2], block.heads, -1).transpose(1, 2)
                for part in (y @ block.qkv.weight.T).chunk(3, dim=-1)
            )
            scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
            x = x + block.out((scores @ v).transpose(1, 2).reshape(*x.shape[:2], -1))
            y = block.up(block.norm_mlp(x))
            y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
            x = x + block.down(y)
        return x


@pytest.mark.parametrize(("depth", "frames"), [(1, 16), (2, 5), (3, 1)])
def test_temporal_transformer_is_its_plain_rendering(depth: int, frames: int) -> None:
    torch.manual_seed(depth)
    model = TemporalTransformer(32, positions=17, depth=depth, heads=8, head_width=16, mlp_width=48)
    features = torch.randn(3, frames, 32)
    plain = PlainTemporal(model)(features)
    assert torch.allclose(model.tokens(features), plain, atol=1e-5)
    assert torch.allclose(model(features), plain[:, 0], atol=1e-5)
    with pytest.raises(FclipError, match="17 frames"):
        model(torch.randn(1, 17, 32))


@pytest.mark.parametrize("class_specific", [True, False])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_prompts_are_context_and_words_in_order(position: Any, class_specific: bool) -> None:
    """Each prompt written out as 77 rows of embeddings, through open_clip's own text tower."""
    torch.manual_seed(0)
    clip = load_clip("tiny", "random")
    texts = ["surprise", "a dropped jaw, eyes wide open"]
    learner = PromptLearner(clip.model, clip.tokenizer, texts, 5, class_specific, position, ending=".")
    embedding = clip.model.token_embedding.weight
    expected = []
    for index, text in enumerate(texts):
        context = learner.ctx[index] if class_specific else learner.ctx
        words = embedding[torch.tensor(clip.tokenizer.encode(text))]
        rows = {"end": [context, words], "middle": [context[:2], words, context[2:]], "front": [words, context]}[
            position
        ]
        prompt = torch.cat([embedding[[49406]], *rows, embedding[[269, 49407]]])  # 269 is "."
        prompt = torch.cat([prompt, embedding[[0] * (77 - len(prompt))]])
        x = clip.model.transformer((prompt + clip.model.positional_embedding)[None], attn_mask=clip.model.attn_mask)
        end = 1 + 5 + len(words) + 1
        expected.append(clip.model.ln_final(x)[0, end] @ clip.model.text_projection)
    assert torch.allclose(learner(clip.model), torch.stack(expected), atol=1e-5)


def test_context_can_start_from_words() -> None:
    clip = load_clip("tiny", "random")
    learner = PromptLearner(clip.model, clip.tokenizer, ["fear"], 4, init="a photo of a", ending=".")
    plain = clip.model.encode_text(clip.tokenizer(["a photo of a fear."]))
    assert torch.allclose(learner(clip.model), plain, atol=1e-5)
    with pytest.raises(UsageError, match="4 tokens"):
        PromptLearner(clip.model, clip.tokenizer, ["fear"], 5, init="a photo of a")


def test_too_long_texts_are_named() -> None:
    clip = load_clip("tiny", "random")
    place_context(clip.tokenizer, ["word " * 67], 8, "end", "", 77)
    with pytest.raises(FclipError, match="78 tokens"):
        place_context(clip.tokenizer, ["word " * 68], 8, "end", "", 77)


def test_texts_are_encoded_once_in_eval_and_again_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    calls = []
    original = PromptLearner.embed
    monkeypatch.setattr(PromptLearner, "embed", lambda *args: (calls.append(1), original(*args))[1])
    model.train()
    model(batch())
    model(batch())
    assert len(calls) == 2
    model.eval()
    with torch.no_grad():
        first = model.text_features()
        assert torch.equal(model.text_features(), first) and len(calls) == 3
        model.prompt_learner.ctx.add_(0.1)
        changed = model.text_features()
    assert len(calls) == 4 and not torch.allclose(first, changed)
    assert torch.allclose(model.text_features(), changed, atol=1e-6) and len(calls) == 5  # with gradients: anew


# -- training -----------------------------------------------------------------------------------------------------


def test_one_step_changes_exactly_the_trainable_tensors() -> None:
    model = make()
    groups = model.parameter_groups(1e-5, 1e-4)
    assert [group["lr"] for group in groups] == pytest.approx([1e-5, 1e-2, 1e-3])
    assert all(group["weight_decay"] == 1e-4 for group in groups)
    assert [sum(p.numel() for p in group["params"]) for group in groups] == [
        sum(p.numel() for n, p in model.trainable_state().items() if n.startswith(part))
        for part in ("image_encoder.", "temporal_net.", "prompt_learner.")
    ]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameter_groups(1e-2, 0.0), momentum=0.9)
    model(batch(4)).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == parameter.requires_grad, name
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), name
    assert all(name.startswith("clip.") for name, p in model.named_parameters() if not p.requires_grad)


def test_it_overfits_a_few_clips() -> None:
    model = make()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    inputs = batch(4)
    losses = []
    for _ in range(60):
        loss = model(inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1 and losses[-1] < 0.05


def test_recipe_and_preprocessing() -> None:
    model = make(normalize="none", resize="crop")
    recipe = recipe_of("dfer-clip")
    assert recipe and (recipe.schedule, recipe.milestones, recipe.epochs) == ("multistep", (30, 40), 50)
    assert (recipe.lr, recipe.batch_size, recipe.weight_decay) == (1e-5, 48, 1e-4)
    assert (model.preprocess.mean, model.preprocess.std, model.preprocess.resize) == ((0, 0, 0), (1, 1, 1), "crop")
    assert make().preprocess.mean == load_clip("tiny", "random").mean


# -- options and checkpoints --------------------------------------------------------------------------------------


def test_checkpoint_holds_the_texts_themselves(tmp_path: Path) -> None:
    texts = {name: f"a face of {name}" for name in CLASSES}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    model = make(descriptions=str(tmp_path / "texts.json"), context=4, class_specific=False, position="middle")
    assert model.prompts["class"] == list(texts.values())
    save_checkpoint(tmp_path / "a.safetensors", model.eval())
    (tmp_path / "texts.json").unlink()
    loaded = load_model(tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(batch()).logits, model(batch()).logits)


def test_bundled_descriptions_fit_the_eleven_classes() -> None:
    texts = read_descriptions(None)
    assert list(texts)[:7] == list(CLASSES) and len(texts) == 11
    names = set(texts) | {
        "happy",
        "sad",
        "angry",
        "surprised",
        "disgusted",
        "afraid",
        "anxious",
        "helpless",
        "disappointed",
    }
    assert not [word for text in texts.values() for word in text.replace(",", "").split() if word in names]
    clip = load_clip("tiny", "random")
    place_context(clip.tokenizer, list(texts.values()), 16, "end", "", 77)


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"happiness": 3}', '{"happiness": " "}', json.dumps({"happiness": "a smile"})]
)
def test_bad_descriptions_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "texts.json").write_text(content)
    with pytest.raises(FclipError, match="texts.json|description"):
        make(descriptions=str(tmp_path / "texts.json"))
    with pytest.raises(FclipError, match="no such file"):
        make(descriptions=str(tmp_path / "nothing.json"))


@pytest.mark.parametrize(
    "options",
    [
        {"position": "left"},
        {"context": 33},
        {"context": -1},
        {"temporal_layers": 13},
        {"normalize": "imagenet"},
        {"text_mode": "words"},
        {"resize": "pad"},
        {"contexts": 8},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        make(**options)


@pytest.mark.parametrize("context", [4, 16])
@pytest.mark.parametrize("temporal_layers", [0, 2, 3])
def test_every_ablation_trains(context: int, temporal_layers: int) -> None:
    model = make(context=context, temporal_layers=temporal_layers, class_specific=False, text_mode="class-name")
    model(batch()).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

"""Training step of dfer-clip against a straightforward rendering, as ratios of one run.

The straightforward one is the released code's way on open_clip's own modules: the image tower computes every token of
every block, prompts are padded to 77 tokens and go through nn.MultiheadAttention with a mask, the temporal transformer
computes all tokens, SGD is torch's default. Same weights, same loss and gradients (asserted). Evaluation, where the
texts do not change, is measured too. Time is processor time on one thread, which other programs do not disturb.

What is saved in training is the texts' padding and the last image block's patches; the rest are the matrix products of
the image tower and its gradient, so the ratio falls with the clips of a batch and rises with its classes.

    python -m tests.bench dfer_clip
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.engine.train.optimise import make_optimizer
from fclip.models import create_model
from fclip.models.baselines.descriptions import read_descriptions
from fclip.models.baselines.dfer_clip import DferClip

Loss = Callable[[DferClip, dict[str, Tensor]], Tensor]


def plain_logits(model: DferClip, batch: dict[str, Tensor]) -> Tensor:
    """The released code's forward on this model's weights."""
    clip, learner, frames = model.clip, model.prompt_learner, batch["frames"]
    features = model.image_encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, E)
    video = plain_temporal(model, features)
    ids = F.pad(learner.ids, (0, 77 - learner.ids.shape[1]))
    words, context = clip.token_embedding(ids), learner.ctx
    prompts = torch.cat([words[:, :1], context, words[:, 1 + context.shape[1] :]], dim=1) + clip.positional_embedding
    x = clip.ln_final(clip.transformer(prompts, attn_mask=clip.attn_mask))  # (C, 77, W)
    texts = x[torch.arange(len(ids)), ids.argmax(dim=1)] @ clip.text_projection
    return F.normalize(video, dim=-1) @ F.normalize(texts, dim=-1).T / 0.01


def plain_temporal(model: DferClip, features: Tensor) -> Tensor:
    net = model.temporal_net
    x = torch.cat([net.class_token.expand(len(features), -1, -1), features], dim=1) + net.positions
    for block in net.blocks:
        q, k, v = (
            part.unflatten(-1, (block.heads, -1)).transpose(1, 2)
            for part in block.qkv(block.norm_attention(x)).chunk(3, dim=-1)
        )
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        x = x + block.out((weights @ v).transpose(1, 2).flatten(2))
        x = x + block.down(F.gelu(block.up(block.norm_mlp(x)), approximate="tanh"))
    return x[:, 0]


def plain_loss(model: DferClip, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(plain_logits(model, batch), batch["labels"])


def our_loss(model: DferClip, batch: dict[str, Tensor]) -> Tensor:
    loss = model(batch).loss
    assert loss is not None
    return loss


def gradients(model: DferClip, batch: dict[str, Tensor], loss: Loss) -> dict[str, Tensor]:
    model.zero_grad()
    loss(model, batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_same(model: DferClip, batch: dict[str, Tensor]) -> None:
    """Raise unless loss and gradients of both are the same."""
    mine, plain = gradients(model, batch, our_loss), gradients(model, batch, plain_loss)
    worst = max(float((mine[name] - plain[name]).norm() / plain[name].norm()) for name in plain)
    if mine.keys() != plain.keys() or worst > 1e-2:
        raise SystemExit(f"gradients differ by {worst:.2g}")
    print(f"  same results: largest relative gradient difference {worst:.1e}")


def train_seconds(model: DferClip, batch: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Shortest processor seconds of a training step of each, taken in turns."""
    groups = model.parameter_groups(1e-9, 1e-4)
    optimizers = {"ours": make_optimizer("sgd", groups, 0.9), "plain": torch.optim.SGD(groups, momentum=0.9)}
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(steps + 1):
        for name, loss in (("ours", our_loss), ("plain", plain_loss)):
            start = time.process_time()
            optimizers[name].zero_grad()
            loss(model, batch).backward()
            optimizers[name].step()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: min(values) for name, values in times.items()}


@torch.no_grad()
def eval_seconds(model: DferClip, batch: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Shortest processor seconds of a batch in evaluation of each, after the first one, which encodes the texts."""
    model.eval()
    model(batch)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(steps):
        for name, forward in (("ours", lambda: model(batch).logits), ("plain", lambda: plain_logits(model, batch))):
            start = time.process_time()
            forward()
            times[name].append(time.process_time() - start)
    return {name: min(values) for name, values in times.items()}


def bench(clip: str, clips: int, frames: int, count: int, steps: int) -> None:
    torch.manual_seed(0)
    classes = list(read_descriptions(None))[:count]
    model = create_model("dfer-clip", clip, classes, frames, "random").train()
    size = model.preprocess.image_size
    batch = {"frames": torch.randn(clips, frames, 3, size, size), "labels": torch.arange(clips) % count}
    print(f"dfer-clip, CLIP {clip}, batch {clips}, {frames} frames, {count} classes")
    check_same(model, batch)
    for name, times in (
        ("training step", train_seconds(model, batch, steps)),
        ("evaluation", eval_seconds(model, batch, steps)),
    ):
        ratio = times["plain"] / times["ours"]
        print(f"  {name}: {ratio:.2f} x faster ({times['ours']:.3f} s against {times['plain']:.3f} s)", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    bench("tiny", clips=8, frames=8, count=7, steps=15)
    bench("ViT-B-32", clips=1, frames=16, count=11, steps=3)
    bench("ViT-B-32", clips=2, frames=16, count=7, steps=1)


if __name__ == "__main__":
    main()

"""Equations 1 and 8-11 against a plain numpy rendering of them, for any modalities and 2 to 43 classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.models.finecliper.fusion import fuse, fusion_loss


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=-1, keepdims=True)) @ (b / np.linalg.norm(b, axis=-1, keepdims=True)).T


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    labels: np.ndarray,
    tau: float,
    fixed: list[float] | None,
    normalize: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Eqs. 8-11 clip by clip, modality by modality: weights, fused vectors, logits, loss."""
    weights, fused, logits, losses = [], [], [], []
    for clip, label in zip(features, labels, strict=True):
        sims = [cosine(m, positive) - cosine(m, negative) for m in clip]
        w = softmax(np.array([s.max() for s in sims])) if fixed is None else np.array(fixed) / np.sum(fixed)
        v = sum(wm * (m / np.linalg.norm(m) if normalize else m) for wm, m in zip(w, clip, strict=True))
        sim = cosine(v, positive) - cosine(v, negative)
        loss = -np.log(softmax(sim / tau)[label])
        if len(clip) > 1:
            loss += sum(wm * -np.log(softmax(s / tau)[label]) for wm, s in zip(w, sims, strict=True))
        weights.append(w), fused.append(v), logits.append(sim / tau), losses.append(loss)
    return np.array(weights), np.array(fused), np.array(logits), float(np.mean(losses))


@settings(max_examples=60, deadline=None)
@given(
    clips=st.integers(1, 4),
    modalities=st.integers(1, 4),
    classes=st.integers(2, 43),
    seed=st.integers(0, 2**31),
    tau=st.sampled_from([0.01, 0.07, 1.0]),
    normalize=st.booleans(),
    fixed=st.booleans(),
)
def test_fusion_and_loss_equal_numpy(
    clips: int, modalities: int, classes: int, seed: int, tau: float, normalize: bool, fixed: bool
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(clips, modalities, 16)) * rng.uniform(0.1, 10, (1, modalities, 1))
    positive, negative = rng.normal(size=(2, classes, 16)) + rng.normal(size=16)
    labels = rng.integers(0, classes, clips)
    weights = [float(w) for w in rng.uniform(0.1, 1, modalities)] if fixed else None
    tensors = [torch.from_numpy(x) for x in (features, positive, negative)]
    fused = fuse(*tensors, tau=tau, fixed=weights, normalize=normalize)
    loss = fusion_loss(fused, torch.from_numpy(labels))
    expected = reference(features, positive, negative, labels, tau, weights, normalize)
    for got, wanted in zip((fused.weights, fused.feature, fused.logits), expected, strict=False):
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(float(loss), expected[3], atol=1e-15, rtol=1e-9)
    np.testing.assert_allclose(fused.weights.sum(1).numpy(), 1, atol=1e-12)


def test_one_modality_has_one_cross_entropy() -> None:
    features, texts = torch.randn(5, 1, 8), torch.randn(2, 4, 8)
    fused = fuse(features, *texts)
    assert torch.equal(fused.weights, torch.ones(5, 1))
    torch.testing.assert_close(fused.logits, fused.modality_logits[:, 0])
    labels = torch.tensor([0, 1, 2, 3, 0])
    once = torch.nn.functional.cross_entropy(fused.logits, labels)
    assert fusion_loss(fused, labels) == once
    assert fusion_loss(fused, labels, "printed") == 2 * once
    several = fuse(torch.randn(5, 2, 8), *texts)
    assert fusion_loss(several, labels) == fusion_loss(several, labels, "printed")


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_flow_through_the_weights_unless_detached(detach: bool) -> None:
    features = torch.randn(3, 2, 8, dtype=torch.double, requires_grad=True)
    texts = torch.randn(2, 4, 8, dtype=torch.double)
    weights = fuse(features, *texts, detach=detach).weights
    assert weights.requires_grad is not detach
    if not detach:
        assert torch.autograd.gradcheck(lambda x: fuse(x, *texts, tau=0.5).logits, features)

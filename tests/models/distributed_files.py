"""Writes checkpoint files as their authors distribute them, from state dicts: the tests of `convert` read them back."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fclip.models.backbone.tokenizer import clip_tokenizer

TOKENIZER = clip_tokenizer()
EMOTIONS = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


class RecorderMeter:
    """A look-alike of the class whose instance lies in DFER-CLIP's checkpoints."""

    def __init__(self) -> None:
        self.epoch_losses = np.zeros((50, 2), np.float32)
        self.best = np.float64(71.2)


def write_dfer_clip(path: Path, state: dict[str, Tensor]) -> None:
    """DFER-CLIP's wrapper: DataParallel names, optimizer state, and an instance of __main__.RecorderMeter."""
    main, parameter = sys.modules["__main__"], nn.Parameter(torch.ones(3, 4))
    optimizer = torch.optim.SGD([parameter], lr=0.01, momentum=0.9)
    parameter.grad = torch.ones(3, 4)
    optimizer.step()
    RecorderMeter.__module__ = "__main__"
    main.RecorderMeter = RecorderMeter  # type: ignore[attr-defined]
    try:
        torch.save(
            {
                "epoch": 41,
                "state_dict": {f"module.{k}": v for k, v in state.items()},
                "best_acc": torch.tensor([71.2]),
                "optimizer": optimizer.state_dict(),
                "recorder": RecorderMeter(),
            },
            path,
        )
    finally:
        del main.RecorderMeter  # type: ignore[attr-defined]


def write_coop(path: Path, state: dict[str, Tensor]) -> None:
    """Dassl's wrapper: only the prompt learner, under its own names."""
    prompt = {k.removeprefix("prompt_learner."): v for k, v in state.items() if k.startswith("prompt_learner.")}
    torch.save(
        {
            "state_dict": prompt,
            "epoch": 50,
            "optimizer": None,
            "scheduler": {"last_epoch": 50},
            "val_result": None,
            "args": argparse.Namespace(seed=1),
        },
        path,
    )


class Node(nn.Module):
    """A module that only holds tensors and other modules."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def write_torchscript(path: Path, state: dict[str, Tensor]) -> None:
    """A TorchScript archive whose module tree holds these tensors; floats are parameters, integers buffers."""
    root = Node()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        node: nn.Module = root
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, Node())
            node = node.get_submodule(parent)
        if tensor.is_floating_point():
            node.register_parameter(leaf, nn.Parameter(tensor))
        else:
            node.register_buffer(leaf, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; the published files stay what they are
        torch.jit.save(torch.jit.script(root), str(path))


# -- small states -------------------------------------------------------------------------------------------------


def token_buffers(table: Tensor, texts: list[str], context: int) -> dict[str, Tensor]:
    """CoOp's buffers token_prefix and token_suffix of prompts "X X ... text" (C, 1, W), (C, 76-K, W)."""
    ids = TOKENIZER([" ".join(["X"] * context + [text]) for text in texts])
    rows = table[ids]
    return {
        "prompt_learner.token_prefix": rows[:, :1].clone(),
        "prompt_learner.token_suffix": rows[:, 1 + context :].clone(),
    }

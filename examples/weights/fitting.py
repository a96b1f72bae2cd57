"""The one training loop of the bundled networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def fit(
    name: str,
    parameters: Iterable[nn.Parameter],
    steps: int,
    loss_at: Callable[[float], Tensor],
    lr: float,
    weight_decay: float,
) -> None:
    """Minimise a loss with AdamW and a one-cycle learning rate; logs its mean 20 times under `name`.

    `loss_at(share)` draws a batch and gives its loss; `share` in (0, 1] says how far training is. Tensors of one
    dimension (biases, norms) are not decayed.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(steps, 2), pct_start=0.15)
    report, total = max(steps // 20, 1), 0.0
    for step in range(1, steps + 1):
        loss = loss_at(step / steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if step % report == 0:
            logger.info("%s: step %d of %d, loss %.3f", name, step, steps, total / report)
            total = 0.0

"""Expression signals into logistic regression: the first baseline on clips that face analysis has looked at.

Per clip the level, range and trend of each signal (see fclip.faces.signals) over the frames with a face, standardised,
then multinomial logistic regression, all classes weighted alike. Its strength C is chosen by cross-validation inside
the training clips, people kept apart. Nothing of CLIP is in it.

Shape letters: B clips, T frames, S signals, F features, C classes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fclip.errors import FclipError
from fclip.models.base import ExpressionModel, ModelOutput, ModelSpec, Preprocess, TrainingBatches
from fclip.models.baselines.options import SignalsOptions
from fclip.models.heads import classify
from fclip.models.signal_statistics import statistics_width, summarise
from fclip.registry import register
from fclip.schema import JsonObject

logger = logging.getLogger(__name__)

STRENGTHS = tuple(10.0 ** (half / 2) for half in range(-8, -1))  # C: 1e-4 to 1e-1 in half decades
FOLDS = 5
NO_FRAMES = Preprocess(image_size=32)  # of a model that does not look at them
NEVER = 50.0  # how far the logit of a class without a clip lies below the others


class Signals(ExpressionModel):
    """Statistics of signals -> classes. It fits itself: `fit` sets the weights, the names and with them the width.

    weight (C, F) holds the division by the features' standard deviation; mean (F,) is what a clip without any face
    is taken to have, so that its logits are the bias (C,). Of `extra` features beside the statistics a subclass says
    in `read_extra` what they are.
    """

    fits_itself = True
    mean: Tensor

    def __init__(
        self,
        spec: ModelSpec,
        modalities: tuple[str, ...] = ("signals",),
        preprocess: Preprocess | None = NO_FRAMES,
        extra: int = 0,
    ) -> None:
        super().__init__(spec, modalities, preprocess)
        self.extra = extra
        self._set_names(spec.options.signals, torch.device("cpu"))

    def read_extra(self, batch: dict[str, Tensor]) -> Tensor:
        """Features of the clips beside the statistics, (B, extra)."""
        return batch["signals"].new_zeros(len(batch["signals"]), 0)

    def _set_names(self, names: Sequence[str], device: torch.device) -> None:
        """Read signals of these names, with weights 0."""
        self.signal_names = tuple(names)
        self.options["signals"] = list(names)
        width = statistics_width(self.signal_names) + self.extra
        self.weight = nn.Parameter(torch.zeros(len(self.classes), width, device=device))
        self.bias = nn.Parameter(torch.zeros(len(self.classes), device=device))
        self.register_buffer("mean", torch.zeros(width, device=device))

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        if "signals" not in batch:
            raise FclipError(
                f"variant {self.variant} needs signals and the clips have none; "
                "run fclip face-analyze and fclip pack again (and leave out --without signals)"
            )
        statistics, seen = summarise(batch["signals"], self.signal_names)  # (B, 3 S'), (B,)
        features = torch.cat([statistics, self.read_extra(batch).double()], dim=1)  # (B, F)
        centred = torch.where(seen[:, None], features - self.mean.double(), 0.0)
        logits = (centred @ self.weight.double().T + self.bias.double()).float()  # (B, C)
        return classify(logits, features.float(), batch.get("labels"), "signals")

    def trainable_state(self) -> dict[str, Tensor]:
        """All that `fit` sets."""
        return {name: getattr(self, name).detach() for name in ("weight", "bias", "mean")}

    @torch.no_grad()
    def fit(self, batches: TrainingBatches, seed: int) -> JsonObject:
        """Choose C and fit; returns C, UAR of the cross-validation, clips used, whether all people are known, loss.

        Clips without a face are left out. FclipError without signals, for clips whose signals differ, or for one class.
        """
        signals, labels, people = [], [], []
        for batch, infos in batches:
            if not self.signal_names:
                names = next((info["signal_names"] for info in infos if info.get("signal_names")), ())
                self._set_names(names, self.mean.device)
            output = self(batch)  # says what is wrong with the batch
            signals.append(output.features["signals"].double().cpu())
            labels.append(torch.where(batch["signals"].any(-1).any(-1), batch["labels"], -1).cpu())
            people += [str(info.get("identity") or "") for info in infos]
        known = torch.cat(labels).numpy()
        rows = np.flatnonzero(known >= 0)
        features, targets = torch.cat(signals).numpy()[rows], known[rows]
        groups = [people[row] or f"/{row}" for row in rows]  # somebody unknown is taken for a person of their own
        present = np.unique(targets)
        if len(present) < 2:
            raise FclipError(f"the training clips with a face have {len(present)} classes; two are needed")
        for index in sorted(set(range(len(self.classes))) - set(present.tolist())):
            logger.warning("no training clip of class %s: it is never predicted", self.classes[index])
        facts: JsonObject = {"clips": len(rows), "grouped": all(people[row] for row in rows)}
        if not facts["grouped"]:
            logger.warning(
                "not all identities are known: C is chosen by cross-validation that may mix a person's clips"
            )
        facts |= self._fit(features, targets, groups, seed)
        weight, bias, mean = (tensor.double().cpu() for tensor in (self.weight, self.bias, self.mean))
        logits = (torch.from_numpy(features) - mean) @ weight.T + bias  # (B, C)
        facts["loss"] = float(nn.functional.cross_entropy(logits, torch.from_numpy(targets)))
        return facts

    def _fit(self, features: np.ndarray, targets: np.ndarray, groups: Sequence[str], seed: int) -> JsonObject:
        from threadpoolctl import threadpool_limits

        mean, deviation = features.mean(0), features.std(0)
        used = deviation > 1e-9 * np.maximum(1.0, np.abs(mean))
        scaled = (features[:, used] - mean[used]) / deviation[used]
        strength, uar = self.options["strength"], None
        with threadpool_limits(1):  # sums in one order, so that the bytes are the same on every machine
            if not strength:
                strength, uar = choose_strength(scaled, targets, groups, seed)
            weight, bias = _logistic(scaled, targets, strength, len(self.classes))
        whole = np.zeros((len(weight), len(used)))
        whole[:, used] = weight / deviation[used]
        state = {"weight": whole, "bias": bias, "mean": mean}
        self.load_trainable_state({name: torch.from_numpy(values).float() for name, values in state.items()})
        return {"C": strength, "cross_validated_uar": uar}


def choose_strength(
    features: np.ndarray, targets: np.ndarray, groups: Sequence[str], seed: int
) -> tuple[float, float | None]:
    """The C of STRENGTHS with the best UAR over clips left out (the smallest, if several), and that UAR.

    features (N, F) are standardised; groups (N,) stay on one side. The middle C and None where there are too few.
    """
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedGroupKFold

    rarest = int(np.bincount(targets)[np.unique(targets)].min())
    folds = min(FOLDS, rarest, len(set(groups)))
    if folds < 2:
        logger.warning("too few clips or people to choose C by cross-validation: the middle one is taken")
        return STRENGTHS[len(STRENGTHS) // 2], None
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    classes = int(targets.max()) + 1
    found = np.zeros((len(STRENGTHS), len(targets)), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer people than folds
        splits = list(splitter.split(features, targets, groups))
    for train, test in splits:
        if len(np.unique(targets[train])) < 2:
            found[:, test] = targets[train][0] if len(train) else 0
            continue
        for row, strength in enumerate(STRENGTHS):
            weight, bias = _logistic(features[train], targets[train], strength, classes)
            found[row, test] = (features[test] @ weight.T + bias).argmax(1)
    scores = [recall_score(targets, row, average="macro", zero_division=0) for row in found]
    best = int(np.argmax(np.round(scores, 9)))
    return STRENGTHS[best], float(scores[best])


def _logistic(
    features: np.ndarray, targets: np.ndarray, strength: float, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, F) and bias (C,) of multinomial logistic regression with balanced classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 1000 steps it is near enough
        model.fit(features, targets)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives the logit of the second class alone
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, intercepts.min() - NEVER)
    weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    return weight, bias


@register(SignalsOptions, needs_clip=False, recipes={})
def signals(spec: ModelSpec) -> Signals:
    """Statistics of the expression signals and logistic regression."""
    return Signals(spec)

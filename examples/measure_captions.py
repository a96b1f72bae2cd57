"""How much of the face is in the captions? On labelled faces, with template captions made of MediaPipe's tracks.

    fclip preprocess --dataset csv --source pictures.csv --name real --crop mediapipe --frames 1
    fclip face-analyze --dataset real && fclip caption --dataset real --mllm template
    python examples/measure_captions.py fclip-data/real --people pictures.csv

prints (1) for each state how often the caption says it where its signal lies above the 95th percentile of the neutral
faces of part `train`, and how often it says the contrary (the opposite, unless that signal is above its own percentile
too, or that the part is at rest), on part `test`; (2) unweighted average recall of a bag of words with logistic
regression, trained on part `train`, tested on part `test`, its C chosen by cross-validation inside `train` with people
apart, with a bootstrap interval over people. The CSV has the columns path and identity.
"""

from __future__ import annotations

import argparse
import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline

from fclip.captions.template.activation import blendshape_names
from fclip.data.storage.captions import read_captions
from fclip.data.storage.parts import FacesPart
from fclip.data.storage.shards import need_field, parse_info, read_shard
from fclip.files import sha256_bytes
from fclip.records import make_key

EXCEEDED = 0.95  # quantile of neutral faces above which a signal must be told
RESAMPLES = 2000
LEAST_CLIPS = 30  # of a label in part `train`; rarer labels are left out
STATES = {  # state -> signal, its sign, what a caption says, region, the opposite state
    "brows lowered": ("browDown", 1, r"\bbrows? (are|is) \w+ (lowered|drawn together)", "brows", "brows raised"),
    "brows raised": ("browOuterUp", 1, r"\bbrows? (are|is) \w+ (raised|arched|lifted)", "brows", "brows lowered"),
    "inner brows raised": ("browInnerUp", 1, r"brows are \w+ (lifted|raised)", "brows", "brows lowered"),
    "eyes wide": ("eyeWide", 1, r"eyes are \w+ widened", "eyes", "eyes narrowed"),
    "eyes narrowed": ("eyeBlink", 1, r"eyes? (are|is) (slightly narrowed|half closed|closed)", "eyes", "eyes wide"),
    "nose wrinkled": ("noseSneer", 1, r"nose is \w+ wrinkled", "", ""),
    "cheeks raised": ("cheekSquint", 1, r"cheeks are \w+ lifted", "", ""),
    "upper lip raised": ("mouthUpperUp", 1, r"upper lip is \w+ raised", "mouth", ""),
    "corners up": ("mouthSmile", 1, r"corners? (are|is) \w+ upturned", "mouth", "corners down"),
    "corners down": ("mouthFrown", 1, r"corners are \w+ downturned", "mouth", "corners up"),
    "lips pressed": ("mouthPress", 1, r"lips are \w+ pressed", "mouth", "mouth open"),
    "lips pursed": ("mouthPucker", 1, r"lips are \w+ pursed", "mouth", ""),
    "chin bunched": ("mouthShrugLower", 1, r"chin is \w+ bunched", "mouth", ""),
    "mouth open": ("jawOpen", 1, r"mouth is \w+ open", "mouth", "mouth shut"),
    "mouth shut": ("jawOpen", -1, r"mouth is shut", "", "mouth open"),
    "head bowed": ("pitch", 1, r"head is \w+ bowed", "head", "head back"),
    "head back": ("pitch", -1, r"head is (\w+ tipped|tipped far) back", "head", "head bowed"),
}


@dataclass
class Clips:
    """Labels, parts, people, captions and tracks' means of n clips: blendshapes (n, 52), pose (n, 3)."""

    label: np.ndarray
    part: np.ndarray
    person: np.ndarray
    text: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray

    def signal(self, name: str) -> np.ndarray:
        """Pitch, or a blendshape (its two sides' mean), (n,)."""
        if name == "pitch":
            return self.pose[:, 0]
        names = blendshape_names()
        sides = [name + side for side in ("Right", "Left") if name + side in names] or [name]
        return self.blendshapes[:, [names.index(side) for side in sides]].mean(axis=1)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with frames/, faces/ and captions/")
    parser.add_argument("--people", type=Path, required=True, help="CSV with the columns path,identity")
    parser.add_argument("--captions", type=Path, help="folder of captions [DATASET/captions]")
    given = parser.parse_args()
    clips = read(given.dataset, given.captions or given.dataset / "captions", given.people)
    print_states(clips)
    print_recall(clips)


def read(dataset: Path, captions: Path, people: Path) -> Clips:
    """All clips that have a face and a caption."""
    with open(people, newline="", encoding="utf-8") as file:
        persons = {make_key(str(Path(row["path"]).with_suffix(""))): row["identity"] for row in csv.DictReader(file)}
    rows = []
    for shard in sorted((dataset / "frames").glob("*.tar")):
        texts = read_captions(captions / f"{shard.stem}.jsonl")
        with FacesPart(dataset / "faces" / f"{shard.stem}.h5") as faces:
            for key, fields in read_shard(shard):
                if key not in texts or key not in faces.keys:
                    continue
                info, track = (
                    parse_info(key, fields),
                    faces.read(key, sha256_bytes(need_field(key, fields, "frames.jpg"))),
                )
                seen = track.confidence > 0
                if track.blendshapes is None or track.pose is None:
                    raise SystemExit(f"{dataset}: no blendshapes; run face-analyze with --backend mediapipe")
                mean = track.blendshapes[seen].mean(axis=0), track.pose[seen].mean(axis=0)
                rows.append((info["label"], info["part"], persons[key], texts[key].text, *mean))
    return Clips(*(np.array(column) for column in zip(*rows, strict=True)))


def print_states(clips: Clips) -> None:
    """Table 1: of the clips above the threshold, how many captions say so, how many say the contrary."""
    neutral, test = (clips.label == "neutral") & (clips.part == "train"), clips.part == "test"
    above = {}
    for name, (signal, sign, *_) in STATES.items():
        values = sign * clips.signal(signal)
        above[name] = values > np.quantile(values[neutral], EXCEEDED)
    print(f"{'state':20s} {'above':>6s} {'says so':>8s} {'contrary':>9s}   (of the neutral in train)")
    for name, (_, _, words, region, opposite) in STATES.items():
        if name == "mouth shut":
            continue
        chosen = above[name] & test
        said = np.array([bool(re.search(words, text)) for text in clips.text])
        against = np.zeros(len(said), bool)
        if opposite:
            against |= np.array([bool(re.search(STATES[opposite][2], text)) for text in clips.text]) & ~above[opposite]
        if region:
            rest = rf"[Tt]he [^.]*\b{region}\b[^.]* (are|is) at rest"
            against |= np.array([bool(re.search(rest, text)) for text in clips.text])
        shares = said[chosen].mean(), (against & ~said)[chosen].mean(), said[neutral].mean()
        print(f"{name:20s} {chosen.sum():6d} {100 * shares[0]:7.1f}% {100 * shares[1]:8.1f}%   {100 * shares[2]:.1f}%")


def print_recall(clips: Clips) -> None:
    """Table 2: the bag of words."""
    labels = [
        label for label in np.unique(clips.label) if (clips.label[clips.part == "train"] == label).sum() >= LEAST_CLIPS
    ]
    known = np.isin(clips.label, labels)
    train, test = known & (clips.part == "train"), known & (clips.part == "test")
    words = CountVectorizer(binary=True, token_pattern=r"[^\W\d_]+", min_df=2)
    model = make_pipeline(words, LogisticRegression(max_iter=2000, class_weight="balanced"))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    search = GridSearchCV(
        model, {"logisticregression__C": [0.03, 0.1, 0.3]}, scoring="balanced_accuracy", cv=folds
    ).fit(clips.text[train], clips.label[train], groups=clips.person[train])
    guess, truth, person = search.predict(clips.text[test]), clips.label[test], clips.person[test]
    recalls = recall_score(truth, guess, labels=labels, average=None)
    low, high, used = interval(truth, guess, person)
    print(f"\nbag of words: UAR {100 * recalls.mean():.1f}, 95 % {100 * low:.1f} to {100 * high:.1f} over people")
    print(
        f"({used} of {RESAMPLES} resamples hold every label); cross-validated in train {100 * search.best_score_:.1f}"
    )
    print("; ".join(f"{label} {100 * recall:.0f}" for label, recall in zip(labels, recalls, strict=True)))
    lengths = np.array([len(text.split()) for text in clips.text])
    most = np.quantile(lengths, 0.95)
    print(f"words a caption: {lengths.mean():.1f} on average, 95 % up to {most:.0f}, {lengths.max()} at most")


def interval(truth: np.ndarray, guess: np.ndarray, person: np.ndarray) -> tuple[float, float, int]:
    """Bootstrap 95 % interval of the UAR over people, and the number of resamples in which no label is missing."""
    random, members = np.random.default_rng(0), [np.flatnonzero(person == name) for name in np.unique(person)]
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])
        if len(np.unique(truth[drawn])) == len(np.unique(truth)):
            found.append(recall_score(truth[drawn], guess[drawn], average="macro"))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975)), len(found)


if __name__ == "__main__":
    main()

"""A small workspace for tests: rendered clips through the real stages, made once a session."""

from __future__ import annotations

from pathlib import Path

from fclip.stages import caption, face_analyze, pack, preprocess, refine, synth

CLIPS = 35


def build_workspace(root: Path, dataset: str = "demo7", clips: int = CLIPS) -> Path:
    """Run synth, preprocess, face-analyze, caption, refine and pack; returns the root."""
    common = {"root": root, "dataset": dataset}
    one = {**common, "workers": 1}
    synth.run(synth.Config(**common, clips=clips))
    preprocess.run(preprocess.Config(**one, crop="lite", frames="4", size=80, shard_size=4))
    face_analyze.run(face_analyze.Config(**one, backend="lite"))
    caption.run(caption.Config(**one))
    refine.run(refine.Config(**one))
    pack.run(pack.Config(**one))
    return root

"""The loader: one order for any number of workers, exact resume, ranks that share, whole clips changed alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.storage.shards import ShardWriter, frame_sample_fields, read_shard
from fclip.data.training import order as sampler
from fclip.data.training.access import clip_labels, untrained_remark
from fclip.data.training.augment import AUGMENTATIONS, Augmentation, mirror
from fclip.data.training.loader import Batch, ClipLoader
from fclip.errors import FclipError
from fclip.records import FrameSample
from tests.data.storage_files import packed_shard, raw_tar

STILL = Augmentation((1.0, 1.0), (1.0, 1.0), 0.0)
WILD = Augmentation((0.4, 1.0), (0.7, 1.4), 0.5, 10.0, 0.2, 0.2, 0.2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three shards of 5, 4 and 2 clips of 6 frames of 48 x 48."""
    folder = tmp_path_factory.mktemp("packed")
    keys = [f"clip{number:02d}" for number in range(11)]
    groups = {"part1-00000": keys[:5], "part1-00001": keys[5:9], "part2-00000": keys[9:]}
    return [packed_shard(folder / f"{stem}.tar", group, count=6) for stem, group in groups.items()]


def train_loader(shards: list[Path], **options: object) -> ClipLoader:
    """A training loader of batches of 3 at 32 x 32 with every change switched on."""
    return ClipLoader(shards, 3, **{"train": True, "image_size": 32, "augmentation": WILD, "seed": 7, **options})


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Whether two lists of batches are equal to the last bit."""
    if len(first) != len(second):
        return False
    for a, b in zip(first, second, strict=True):
        if a.keys() != b.keys():
            return False
        for name in a:
            equal = torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name]
            if not equal:
                return False
    return True


def test_a_batch_holds_what_it_says(shards: list[Path]) -> None:
    (batch, *_) = train_loader(shards).epoch(0)
    assert batch["frames"].shape == (3, 6, 3, 32, 32) and batch["frames"].dtype == torch.uint8
    assert batch["parsing"].shape == (3, 6, 32, 32) and batch["parsing"].dtype == torch.uint8
    assert batch["landmarks"].shape == (3, 6, 68, 2) and batch["landmarks"].dtype == torch.float32
    assert batch["captions"] == ["The mouth opens slowly."] * 3
    assert batch["labels"] == [info["label"] for info in batch["infos"]]
    assert batch["keys"] == [info["key"] for info in batch["infos"]]


@pytest.mark.parametrize("train", [True, False])
def test_workers_change_nothing(shards: list[Path], train: bool) -> None:
    alone = train_loader(shards, train=train)
    expected = [list(alone.epoch(epoch)) for epoch in (0, 1)]
    for workers in (1, 2):
        loader = train_loader(shards, train=train, workers=workers)
        assert all(same(list(loader.epoch(epoch)), expected[epoch]) for epoch in (0, 1))
    assert same(expected[0], expected[1]) != train


def test_every_epoch_has_its_own_order_and_its_own_changes(shards: list[Path]) -> None:
    loader = train_loader(shards)
    orders = [tuple(key for batch in loader.epoch(epoch) for key in batch["keys"]) for epoch in range(4)]
    assert len(set(orders)) == 4
    assert all(set(order) == set(loader.clips.keys) for order in orders)
    first, second = (
        {key: clip for batch in loader.epoch(epoch) for key, clip in zip(batch["keys"], batch["frames"], strict=True)}
        for epoch in (0, 1)
    )
    assert all(not torch.equal(first[key], second[key]) for key in loader.clips.keys)
    other = [key for batch in train_loader(shards, seed=8).epoch(0) for key in batch["keys"]]
    assert tuple(other) != orders[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_at_any_step_without_reading_what_was_before(shards: list[Path], workers: int) -> None:
    loader = train_loader(shards, workers=workers)
    whole = list(loader.epoch(3))
    assert len(whole) == loader.steps_per_epoch == 4
    for step in range(5):
        assert same(list(train_loader(shards, workers=workers).epoch(3, start_step=step)), whole[step:])
    interrupted = loader.epoch(3)
    next(interrupted)
    interrupted.close()
    assert same(list(loader.epoch(3)), whole)  # the same loader, left in the middle of an epoch


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_generators_alone(shards: list[Path], workers: int) -> None:
    before = torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002  the global state is what is looked at
    list(train_loader(shards, workers=workers).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002


def test_skipped_steps_are_not_read(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a", "b"], count=2)
    loader = ClipLoader([path], 1, train=False, image_size=32)
    damage(path, "a", "frames.jpg")
    assert [batch["keys"] for batch in loader.epoch(0, start_step=1)] == [["b"]]
    with pytest.raises(FclipError):
        next(loader.epoch(0))


def damage(path: Path, key: str, field: str) -> None:
    """Overwrite a field of a clip in place, the tar staying whole."""
    from fclip.data.storage.shards import index_shard

    offset, size = index_shard(path)[key][field]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(size))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_global_batch_of_one_process(shards: list[Path], world_size: int) -> None:
    one = list(train_loader(shards).epoch(2))
    parts = [
        list(
            ClipLoader(
                shards,
                3 // world_size or 1,
                train=True,
                image_size=32,
                augmentation=WILD,
                seed=7,
                rank=rank,
                world_size=world_size,
            ).epoch(2)
        )
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    if world_size == 3:  # three ranks with one clip each see the batches of three that one process sees
        joined = [[key for part in parts for key in part[step]["keys"]] for step in range(len(one))]
        assert joined == [batch["keys"] for batch in one]
        frames = torch.stack([part[0]["frames"][0] for part in parts])
        assert torch.equal(frames, one[0]["frames"])


@pytest.mark.parametrize("world_size", [1, 2, 4, 12])
def test_evaluation_sees_each_clip_once_over_all_ranks(shards: list[Path], world_size: int) -> None:
    keys = []
    for rank in range(world_size):
        loader = ClipLoader(shards, 2, train=False, image_size=32, rank=rank, world_size=world_size, wanted=())
        keys += [key for batch in loader.epoch(0) for key in batch["keys"]]
    assert sorted(keys) == sorted(loader.clips.keys)


@given(count=st.integers(1, 200), batch=st.integers(1, 17), world=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_plans_lose_nothing_and_are_equally_long(count: int, batch: int, world: int, seed: int) -> None:
    order = sampler.shuffled(count, seed, 1)
    ranks = [sampler.train_steps(order, batch, rank, world) for rank in range(world)]
    assert {len(steps) for steps in ranks} == {-(-count // (batch * world))}
    assert all(len(step) == batch for steps in ranks for step in steps)
    seen = [np.concatenate([steps[s] for steps in ranks]) for s in range(len(ranks[0]))]
    assert np.array_equal(np.concatenate(seen)[:count], order)
    one = sampler.train_steps(order, batch * world)
    assert all(np.array_equal(step, whole) for step, whole in zip(seen, one, strict=True))
    tests = [np.concatenate(steps) for rank in range(world) if (steps := sampler.eval_steps(count, batch, rank, world))]
    assert sorted(np.concatenate(tests)) == list(range(count))


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_balanced_draws_are_balanced(counts: list[int], seed: int) -> None:
    labels = [f"class{number}" for number, count in enumerate(counts) for _ in range(count)]
    order = sampler.balanced(labels, seed, 3)
    drawn = Counter(labels[index] for index in order)
    assert len(order) == len(labels)
    assert max(drawn.values()) - min(drawn[name] for name in set(labels)) <= 1
    for name in set(labels):
        times = Counter(int(index) for index in order if labels[index] == name)
        members = labels.count(name)
        assert max(times.values(), default=0) <= -(-drawn[name] // members)  # no clip is favoured in its class
    assert np.array_equal(order, sampler.balanced(labels, seed, 3))


def test_balance_repeats_rare_classes(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", [f"c{n}" for n in range(8)], ["anger"] * 7 + ["fear"], count=2)
    loader = ClipLoader([path], 4, train=True, image_size=32, balance=True, wanted=())
    labels = Counter(label for batch in loader.epoch(0) for label in batch["labels"])
    assert labels == {"anger": 4, "fear": 4}


def test_a_still_training_clip_is_the_test_clip(shards: list[Path]) -> None:
    test = {
        k: (f, p, m)
        for b in ClipLoader(shards, 4, train=False, image_size=40).epoch(0)
        for k, f, p, m in zip(b["keys"], b["frames"], b["parsing"], b["landmarks"], strict=True)
    }
    for batch in ClipLoader(shards, 4, train=True, image_size=40, augmentation=STILL).epoch(0):
        for index, key in enumerate(batch["keys"]):
            found = (batch["frames"][index], batch["parsing"][index], batch["landmarks"][index])
            assert all(torch.equal(a, b) for a, b in zip(found, test[key], strict=True))


def test_a_flip_goes_through_all_modalities(shards: list[Path]) -> None:
    still = next(ClipLoader(shards, 11, train=True, image_size=48, augmentation=STILL).epoch(0))
    flipping = Augmentation((1.0, 1.0), (1.0, 1.0), 1.0)
    flipped = next(ClipLoader(shards, 11, train=True, image_size=48, augmentation=flipping).epoch(0))
    assert torch.equal(flipped["frames"], still["frames"].flip(-1))
    swapped = torch.from_numpy(mirror().parsing)[still["parsing"].flip(-1).long()]
    assert torch.equal(flipped["parsing"], swapped)
    points = still["landmarks"][:, :, mirror().landmarks] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    assert torch.allclose(flipped["landmarks"], points, atol=1e-6)


def test_more_frames_than_asked_are_drawn_by_segment(shards: list[Path]) -> None:
    whole = next(ClipLoader(shards, 11, train=False, image_size=48).epoch(0))
    centres = next(ClipLoader(shards, 11, train=False, image_size=48, frames=3).epoch(0))
    for name in ("frames", "parsing", "landmarks"):
        assert torch.equal(centres[name], whole[name][:, [1, 3, 5]])
    seen = set()
    for epoch in range(12):
        batch = next(ClipLoader(shards, 11, train=True, image_size=48, frames=3, augmentation=STILL).epoch(epoch))
        for key, marks in zip(batch["keys"], batch["landmarks"], strict=True):
            source = whole["landmarks"][whole["keys"].index(key)]
            picked = [next(t for t in range(6) if torch.equal(source[t], mark)) for mark in marks]
            assert all(index in (2 * segment, 2 * segment + 1) for segment, index in enumerate(picked))
            seen.add(tuple(picked))
    assert len(seen) == 8


def test_shards_of_frames_alone_give_frames_alone(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a"], faces=False)
    batch = next(ClipLoader([path], 1, train=False, image_size=32).epoch(0))
    assert "parsing" not in batch and "landmarks" not in batch


def test_what_is_not_wanted_is_not_decoded(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a"])
    damage(path, "a", "parsing.png")
    batch = next(ClipLoader([path], 1, train=False, image_size=32, wanted=("landmarks",)).epoch(0))
    assert "parsing" not in batch and "landmarks" in batch and batch["captions"] == [None]


def test_clips_without_faces_are_refused_or_left_blank(tmp_path: Path) -> None:
    with_faces = packed_shard(tmp_path / "part1-00000.tar", ["a"])
    without = packed_shard(tmp_path / "part1-00001.tar", ["b"], faces=False)
    with pytest.raises(FclipError, match=r"1 of 2 clips have no parsing \(b is one\)"):
        ClipLoader([with_faces, without], 2, train=False, image_size=32)
    batch = next(ClipLoader([with_faces, without], 2, train=False, image_size=32, allow_missing=True).epoch(0))
    assert batch["parsing"][0].any() and not batch["parsing"][1].any()
    assert (batch["landmarks"][1] == -1).all()


def test_only_some_clips(shards: list[Path]) -> None:
    loader = ClipLoader(shards, 4, train=False, image_size=32, only=["clip09", "clip02"], wanted=())
    assert [batch["keys"] for batch in loader.epoch(0)] == [["clip02", "clip09"]]
    with pytest.raises(FclipError, match="clip99 is in none of the 3 shards"):
        ClipLoader(shards, 4, train=False, image_size=32, only=["clip99"])


def test_a_large_frame_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a"], count=2, height=160, width=160)
    small = next(ClipLoader([path], 1, train=False, image_size=40).epoch(0))["frames"].float()
    full = next(ClipLoader([path], 1, train=False, image_size=160).epoch(0))["frames"].float()
    means = full.reshape(1, 2, 3, 40, 4, 40, 4).mean((4, 6))
    assert (small - means).abs().max() < 10 and (small - means).abs().mean() < 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_clip_is_one_line(tmp_path: Path, workers: int) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a", "b"])
    damage(path, "b", "landmarks.npy")
    loader = ClipLoader([path], 1, train=False, image_size=32, workers=workers)
    batches = loader.epoch(0)
    assert next(batches)["keys"] == ["a"]
    with pytest.raises(FclipError, match=r"^b\.landmarks\.npy: [^\n]*$"):
        next(batches)


def test_wrong_input_is_one_line(tmp_path: Path, shards: list[Path]) -> None:
    empty = raw_tar(tmp_path / "empty.tar", [])
    mixed = packed_shard(tmp_path / "part1-00000.tar", ["a"], count=3)
    for paths, reason in (
        ([empty], "hold no clip"),
        ([tmp_path / "none.tar"], "none.tar"),
        ([shards[0], shards[0]], "clip00 is also in"),
    ):
        with pytest.raises(FclipError, match=reason):
            ClipLoader(paths, 2, train=False, image_size=32)
    with pytest.raises(FclipError, match=r"different frame counts \(clip09 6, clip10 6, a 3, ...\); set --frames"):
        next(ClipLoader([shards[2], mixed], 3, train=False, image_size=32).epoch(0))


def test_urls_are_fetched_once_and_refreshed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: list[Path]
) -> None:
    import fsspec

    monkeypatch.setenv("FCLIP_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/part1-00000.tar", shards[0].read_bytes())
    url = "memory://bucket/part1-00000.tar"
    local = list(ClipLoader([shards[0]], 2, train=False, image_size=32).epoch(0))
    assert same(list(ClipLoader([url], 2, train=False, image_size=32).epoch(0)), local)
    (copy,) = (tmp_path / "cache").iterdir()
    before = copy.stat().st_mtime_ns
    assert same(list(ClipLoader([url], 2, train=False, image_size=32).epoch(0)), local)
    assert copy.stat().st_mtime_ns == before
    memory.pipe("/bucket/part1-00000.tar", shards[1].read_bytes())
    changed = next(ClipLoader([url], 2, train=False, image_size=32).epoch(0))
    assert changed["keys"] == ["clip05", "clip06"]
    file_url = "file://" + str(shards[0])
    assert same(list(ClipLoader([file_url], 2, train=False, image_size=32).epoch(0)), local)


@pytest.mark.parametrize(
    "url", ["pipe:cat a.tar", "simplecache::file:///a.tar", "memory://none/a.tar", "nosuch://a/b.tar"]
)
def test_pipes_and_unreachable_urls_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FCLIP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FclipError, match=url[:8]) as caught:
        ClipLoader([url], 2, train=False, image_size=32)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tar*"))


def test_shards_stay_plain_webdataset(shards: list[Path]) -> None:
    from tests.data.storage_files import read_with_webdataset

    assert all(read_with_webdataset(path) == dict(read_shard(path)) for path in shards)


def test_training_may_take_the_centres_and_leave_clips_as_they_are(tmp_path):
    """--augment none and no random frames: what evaluation sees; random frames alone: other frames of the clip."""
    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    info = {"label": "a", "times": [i / 25 for i in range(12)], "end": 12 / 25}
    with ShardWriter(tmp_path / "part1-00000.tar") as writer:
        writer.write("c", frame_sample_fields(FrameSample("c", frames, info)))

    def first(**options) -> torch.Tensor:
        loader = ClipLoader([tmp_path / "part1-00000.tar"], 1, image_size=32, frames=4, wanted=(), **options)
        return next(loader.epoch(0))["frames"][0]

    tested = first(train=False)
    still = {"train": True, "augmentation": AUGMENTATIONS["none"]}
    assert torch.equal(first(**still, random_frames=False), tested)
    drawn = first(**still)
    whole = next(ClipLoader([tmp_path / "part1-00000.tar"], 1, image_size=32, train=False, wanted=()).epoch(0))[
        "frames"
    ][0]
    places = [next(i for i in range(12) if torch.equal(whole[i], frame)) for frame in drawn]
    assert [place // 3 for place in places] == [0, 1, 2, 3] and not torch.equal(drawn, tested)
    for name in ("crop-flip", "full"):
        assert not torch.equal(first(train=True, augmentation=AUGMENTATIONS[name], random_frames=False), tested)


def test_classes_that_no_training_clip_has_are_told(tmp_path: Path) -> None:
    train = packed_shard(tmp_path / "train-00000.tar", ["a", "b"], labels=("anger", "fear"))
    assert clip_labels([train]) == {"a": "anger", "b": "fear"}
    assert untrained_remark({"anger", "fear"}, [train]) is None and untrained_remark(set(), [train]) is None
    told = untrained_remark({"anger", "joy"}, [train])
    assert told == "class with test clips and no training clip: joy: its recall can only be 0"

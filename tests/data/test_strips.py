"""Film strips and palette strips: fidelity, determinism, bounds, damaged input."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fclip.data.storage.strips import (
    MAX_ROWS,
    decode_palette_strip,
    decode_strip,
    encode_palette_strip,
    encode_strip,
    parsing_palette,
)
from fclip.errors import FclipError
from tests.data.storage_files import make_track, smooth_frames


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio."""
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_a_real_clip_keeps_its_quality(samples) -> None:
    with av.open(str(samples / "clips" / "single_face.mp4")) as container:
        images = [frame.to_image() for _, frame in zip(range(16), container.decode(video=0), strict=False)]
    frames = np.stack([np.asarray(image.resize((224, 224))) for image in images])
    data = encode_strip(frames)
    assert data == encode_strip(frames)
    decoded = decode_strip(data, 16, 224, 224)
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    assert decibels(decoded, frames) > 38
    assert len(data) < frames.nbytes / 6


@given(count=st.integers(1, 6), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_size_comes_back(count: int, height: int, width: int, seed: int) -> None:
    frames = smooth_frames(count, height, width, seed)
    decoded = decode_strip(encode_strip(frames), count, height, width)
    assert decoded.shape == frames.shape
    reference = np.asarray(Image.open(io.BytesIO(encode_strip(frames))))
    assert np.array_equal(decoded.reshape(reference.shape), reference)  # PIL decodes the same pixels


def test_frames_do_not_leak_into_their_neighbours() -> None:
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[1] = 255
    decoded = decode_strip(encode_strip(frames), 3, 32, 32).astype(int)
    assert np.abs(decoded - frames).max() <= 8


@pytest.mark.parametrize(("size", "result"), [(80, 112), (112, 112), (113, 224), (56, 56), (20, 28), (224, 224)])
def test_small_sizes_are_decoded_at_a_fraction(size: int, result: int) -> None:
    frames = smooth_frames(3, 224, 224)
    decoded = decode_strip(encode_strip(frames), 3, 224, 224, size=size)
    assert decoded.shape == (3, result, result, 3)
    step = 224 // result
    means = frames.reshape(3, result, step, result, step, 3).mean((2, 4))
    assert decibels(decoded, means) > 35


@pytest.mark.parametrize("wrong", [(5, 32, 32), (4, 32, 31), (2, 64, 32), (4, 16, 64)])
def test_a_header_that_disagrees_is_refused(wrong: tuple[int, int, int]) -> None:
    data = encode_strip(smooth_frames(4, 32, 32))
    if wrong[0] * wrong[1] == 128 and wrong[2] == 32:
        assert decode_strip(data, *wrong).shape == (*wrong, 3)  # the strip itself cannot tell
        return
    with pytest.raises(FclipError, match="make the shard again"):
        decode_strip(data, *wrong)


@pytest.mark.parametrize("size", [(0, 8, 8), (2, 8, 0), (MAX_ROWS // 8 + 1, 8, 8), (1, 8, 5000), (-1, -8, 8)])
def test_sizes_out_of_bounds_are_refused_before_decoding(size: tuple[int, int, int]) -> None:
    for decode in (decode_strip, decode_palette_strip):
        with pytest.raises(FclipError, match="do not fit into a strip"):
            decode(b"never looked at", *size)


def test_more_frames_than_a_jpeg_holds_are_refused() -> None:
    with pytest.raises(FclipError, match="use fewer or smaller frames"):
        encode_strip(np.zeros((300, 224, 8, 3), np.uint8))


@pytest.mark.parametrize(("shape", "kind"), [((2, 8, 8), "u1"), ((2, 8, 8, 3), "f4"), ((2, 8, 8, 4), "u1")])
def test_other_arrays_are_refused(shape: tuple[int, ...], kind: str) -> None:
    frames = np.zeros(shape, kind)
    with pytest.raises(FclipError, match="frames must be"):
        encode_strip(frames)


@pytest.mark.parametrize("decode", [decode_strip, decode_palette_strip])
@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"not an image", b"GIF89a" + bytes(20)])
def test_garbage_is_refused(decode, data: bytes) -> None:
    with pytest.raises(FclipError, match="make the shard again"):
        decode(data, 2, 8, 8)


@pytest.mark.parametrize("size", [None, 16])
def test_truncated_strips_are_refused(size: int | None) -> None:
    data = encode_strip(smooth_frames(4, 64, 64))
    for keep in (0.3, 0.6, 0.9):
        with pytest.raises(FclipError, match="damaged"):
            decode_strip(data[: int(keep * len(data))], 4, 64, 64, size=size)


@given(seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_flipped_bytes_never_crash(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = smooth_frames(2, 24, 24)
    for data, decode in (
        (encode_strip(frames), decode_strip),
        (encode_palette_strip(make_track(frames).parsing), decode_palette_strip),
    ):
        wild = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            wild[place] = rng.integers(0, 256)
        try:
            assert decode(bytes(wild), 2, 24, 24).shape[:3] == (2, 24, 24)
        except FclipError as error:
            assert "\n" not in str(error)


@given(count=st.integers(1, 4), height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_parsing_is_lossless(count: int, height: int, width: int, seed: int) -> None:
    parsing = np.random.default_rng(seed).integers(0, 11, (count, height, width), dtype=np.uint8)
    data = encode_palette_strip(parsing)
    assert data == encode_palette_strip(parsing)
    assert np.array_equal(decode_palette_strip(data, count, height, width), parsing)


def test_parsing_shows_its_palette_in_any_viewer() -> None:
    parsing = np.arange(11, dtype=np.uint8).reshape(1, 1, 11)
    colours = np.asarray(Image.open(io.BytesIO(encode_palette_strip(parsing))).convert("RGB"))[0]
    assert [tuple(map(int, colour)) for colour in colours] == list(parsing_palette())
    assert len(set(parsing_palette())) == 11


def test_unknown_parsing_ids_are_refused() -> None:
    with pytest.raises(FclipError, match="id 11"):
        encode_palette_strip(np.full((1, 4, 4), 11, np.uint8))
    image = Image.new("P", (4, 4), 12)
    image.putpalette([0] * 768)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with pytest.raises(FclipError, match="id 12"):
        decode_palette_strip(buffer.getvalue(), 1, 4, 4)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    with pytest.raises(FclipError, match="not a palette"):
        decode_palette_strip(buffer.getvalue(), 1, 4, 4)

"""From a face's movement to pixels: project all curves of a clip once, then paint, light and disturb each frame."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from fclip.files import resource_json
from fclip.synth.actions import INDEX
from fclip.synth.creases import crease_lines, crease_strength
from fclip.synth.draw import PART, THING, Canvas, Frame, paint_face, paint_occluder
from fclip.synth.geometry import PIVOT, ellipse, project, rotation
from fclip.synth.hair import hair_curves
from fclip.synth.identity import Identity
from fclip.synth.look import Look, paint_background
from fclip.synth.outlines import face_curves, repeat
from fclip.synth.shade import ONE, relief

SUPERSAMPLE = 2
SHOULDER = 185.0  # grey level above which highlights are compressed
GRAIN_SHIFTS = 64  # each frame sees the clip's grain shifted by 0..63 pixels


@dataclass(frozen=True)
class Scene:
    """A clip ready to paint: what each of the T frames shows, and what they share."""

    person: Identity
    look: Look
    size: int
    seed: int
    frames: list[Frame]
    landmarks: np.ndarray  # (T, 68, 2) float32 in [0, 1] of the frame
    centres: np.ndarray  # (T, 2) frame position of the head's pivot
    scales: np.ndarray  # (T,) frame sizes per face unit
    rolls: np.ndarray  # (T,) degrees
    things: np.ndarray | None  # (T, 2) position of the occluder in pixels of the canvas
    background: Image.Image
    lighting: np.ndarray  # (size, size, 3) float32 factors: gain, gradient and colour cast
    grain: np.ndarray  # (size + 64, size + 64, 1) float32 noise


def trace_scene(person: Identity, look: Look, values: np.ndarray, times: np.ndarray, seed: int, size: int) -> Scene:
    """Move, turn and project all curves for the channels `values` (T, C) at `times` (T,) seconds."""

    def channel(name: str) -> np.ndarray:
        return values[:, INDEX[name]]

    landmarks, curves = face_curves(person, values)
    total, width = len(values), size * SUPERSAMPLE
    curves |= {name: repeat(points, total) for name, points in hair_curves(person).items()}
    for number, (x, y) in enumerate(person.moles):
        curves[f"mole_{number}"] = repeat(ellipse((x, y, 0.9 - 0.5 * x * x), 0.025, 0.025, 6), total)
    scales = look.scale * (1 + channel("zoom"))
    centres = np.stack([look.centre_x + channel("shift_x"), look.centre_y + channel("shift_y")], axis=1)
    flat = project(np.concatenate([landmarks, *curves.values()], axis=1), rotation(values), centres, scales)
    body = {name: np.array(points) for name, points in resource_json("face_points.json")["body"].items()}
    still = np.broadcast_to(np.eye(3), (total, 3, 3))
    trunk = project(repeat(np.concatenate(list(body.values())), total), still, centres, scales)
    lengths = {name: points.shape[1] for name, points in curves.items()}
    lengths |= {name: len(points) for name, points in body.items()}
    ends = dict(zip(lengths, np.cumsum(list(lengths.values())) * 2, strict=True))
    pixels = (np.concatenate([flat[:, 68:], trunk], axis=1) * width).reshape(total, -1)  # (T, 2 n)
    creases, lines = crease_strength(person, values), crease_lines(curves)
    gap = landmarks[:, 66, 1] - landmarks[:, 62, 1]
    frames = []
    for t in range(total):
        numbers = pixels[t].tolist()
        points = {name: numbers[end - 2 * lengths[name] : end] for name, end in ends.items()}
        activity = {name: float(channel(name)[t]) for name in ("AU6", "AU12_left", "AU12_right")}
        activity["mouth_gap"] = float(gap[t])
        strengths = {name: float(strength[t]) for name, strength in creases.items()}
        frames.append(Frame(points, strengths, lines, float(scales[t]) * width, activity))
    rng = np.random.default_rng([86028121, seed])
    grain = rng.standard_normal((size + GRAIN_SHIFTS, size + GRAIN_SHIFTS, 1), dtype=np.float32)
    return Scene(
        person,
        look,
        size,
        seed,
        frames,
        flat[:, :68].astype(np.float32),
        centres,
        scales,
        channel("roll"),
        _path(look, times, width),
        paint_background(look.background, width),
        _lighting(look, size),
        grain * np.float32(look.noise),
    )


def _path(look: Look, times: np.ndarray, width: int) -> np.ndarray | None:
    """Where the occluder is at `times`: (T, 2) pixels."""
    if look.occluder is None:
        return None
    thing = look.occluder
    path = np.array([thing.x, thing.y]) - PIVOT[:2] + np.outer(times, [thing.dx, thing.dy])
    return (np.array([look.centre_x, look.centre_y]) + path * look.scale) * width


def _lighting(look: Look, size: int) -> np.ndarray:
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    right, down = look.gradient
    plane = look.gain * (1 + right * grid[None, :] + down * grid[:, None])
    return (plane[..., None] * np.array(look.cast)).astype(np.float32)


def paint_frame(scene: Scene, row: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Paint frame `row` of the scene, which is number `index` of its clip: picture (H, W, 3) and parsing (H, W)."""
    frame, look, size = scene.frames[row], scene.look, scene.size
    canvas = Canvas(scene.background)
    paint_face(canvas, frame, scene.person)
    if look.occluder is not None and scene.things is not None:
        paint_occluder(canvas, look.occluder, scene.things[row], frame.unit)
    parts = np.asarray(canvas.parts)[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE]
    light = relief(
        frame,
        scene.person,
        look,
        canvas.picture.width,
        scene.centres[row],
        float(scene.scales[row]),
        float(scene.rolls[row]),
    ).resize((size, size), Image.Resampling.BILINEAR)
    unlit = Image.fromarray(((parts == 0) | (parts == THING)).astype(np.uint8) * np.uint8(255))
    light.paste((ONE, ONE, ONE), mask=unlit)
    picture = np.multiply(np.asarray(canvas.picture.reduce(SUPERSAMPLE)), np.asarray(light), dtype=np.float32)
    picture *= scene.lighting
    picture *= np.float32(1 / ONE)
    picture -= 0.55 * np.maximum(picture - SHOULDER, 0)
    return _disturb(picture, scene, index), np.where(parts < len(PART), parts, 0).astype(np.uint8)


def _disturb(picture: np.ndarray, scene: Scene, index: int) -> np.ndarray:
    """Blur, grain and JPEG compression of one picture (H, W, 3) float -> uint8; the grain depends on `index`."""
    look, size = scene.look, scene.size
    if look.blur > 0:
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        picture = np.asarray(image.filter(ImageFilter.GaussianBlur(look.blur * size / 160)), dtype=np.float32)
    down, right = (index * 37) % GRAIN_SHIFTS, (index * 23 + scene.seed) % GRAIN_SHIFTS
    noisy = picture + scene.grain[down : down + size, right : right + size]
    clean = np.clip(noisy, 0, 255).astype(np.uint8)
    if look.jpeg is None:
        return clean
    buffer = io.BytesIO()
    Image.fromarray(clean).save(buffer, "JPEG", quality=look.jpeg)
    return np.asarray(Image.open(buffer))

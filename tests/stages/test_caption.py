"""The caption stage with a server: asked once a clip, also after an interruption; label shown or not on record."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fclip.data.storage.captions import read_captions, write_captions
from fclip.engine.train.run_folder import RunSummary
from fclip.errors import FclipError, UsageError
from fclip.stages import caption, pack, preprocess, train
from tests.captions.chat_server import chat_server, completion


@pytest.fixture
def server() -> Iterator[Any]:
    with chat_server() as httpd:
        yield httpd


def run(root: Path, server: Any, out: Path, input: Path | None = None, **options: Any):
    common = {"root": root, "dataset": "demo7", "mllm": "openai", "limit": 7, "out": out}
    asking = {"base_url": server.url, "concurrency": 1, **options}
    return caption.run(caption.Config(**common, input=input, options=asking))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_that_was_cut_off_asks_for_the_missing_captions_only(workspace, server, tmp_path):
    out, left = tmp_path / "captions", threading.Semaphore(5)
    ids: dict[str, int] = {}

    def reply(handler: Any, body: dict[str, Any], tries: int) -> None:
        tag = json.dumps(body["messages"][0]["content"][0])[-60:]
        with server.lock:
            number = ids.setdefault(tag, len(ids))
        if left.acquire(blocking=False):
            handler.send(200, completion(f"The lips part {number}."))
        else:
            handler.send(401, {"error": {"message": "no credit left"}})

    server.reply = reply
    frames = {"source": workspace / "demo7" / "source", "out": tmp_path / "frames", "crop": "none", "frames": 2}
    preprocess.run(preprocess.Config(root=tmp_path, dataset="demo7", workers=1, size=32, limit=7, **frames))
    options = {"input": tmp_path / "frames", "prices": (1.0, 2.0)}
    with pytest.raises(FclipError, match="refused: 401 Unauthorized: no credit left"):
        run(workspace, server, out, **options)
    (kept,) = [name for name in names(out) if name.endswith(".unfinished")]
    with (out / kept).open("ab") as file:
        file.write(b'\n{"input": "cut o')  # as a crash may leave it
    left.release(100)
    asked = len(server.bodies)
    report = run(workspace, server, out, **options)
    assert report.counts == {"ok": 7, "skipped": 0, "failed": 0}
    assert len(server.bodies) - asked == 7 - 5
    assert not [name for name in names(out) if name.endswith(".unfinished")]
    assert "840 prompt tokens" in report.lines
    assert report.values["tally"]["cost_usd"] == pytest.approx(7 * (120 * 1 + 4 * 2) / 1e6)
    records = read_captions(next(out.glob("part*.jsonl")))
    assert len({record.text for record in records.values()}) == 7
    assert run(workspace, server, out, **options).values["written"] == 0
    assert len(server.bodies) == asked + 2
    fresh = tmp_path / "fresh"
    run(workspace, server, fresh, **options)
    assert names(fresh) == names(out)
    assert all((fresh / name).read_bytes() == (out / name).read_bytes() for name in names(out))


def test_labels_are_shown_only_where_asked_and_the_record_says_so(workspace, server, tmp_path):
    blind = run(workspace, server, tmp_path / "blind")
    assert not any("LABELS" in line for line in blind.lines)
    with pytest.raises(FclipError, match="--allow-test-labels"):
        run(workspace, server, tmp_path / "aware", label_aware=True)
    with pytest.raises(FclipError, match="--prompt paper show the labels of test parts"):
        run(workspace, server, tmp_path / "aware", prompt="paper")
    assert not (tmp_path / "aware").exists()
    aware = run(workspace, server, tmp_path / "aware", label_aware=True, allow_test_labels=True)
    assert any("SAW THE LABELS" in line for line in aware.lines)
    run(workspace, server, tmp_path / "paper", prompt="paper", allow_test_labels=True)
    for folder, shown in (("blind", False), ("aware", True), ("paper", True)):
        for path in (tmp_path / folder).glob("part*.jsonl"):
            assert all(record.label_shown is shown for record in read_captions(path).values())
    texts = [body["messages"][0]["content"][-1]["text"] for body in server.bodies]
    assert sum("Annotation by people" in text for text in texts) == 7
    assert sum("Progression" in text for text in texts) == 7
    with pytest.raises(UsageError, match="captioner template: unknown option 'label_aware'"):
        caption.Config(root=workspace, dataset="demo7", options={"label_aware": True}, out=tmp_path / "t")


def test_train_says_that_captions_saw_the_label(workspace, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(workspace, root)
    refined = root / "demo7" / "refined"
    for record in ("manifest.json", "config.json"):  # somebody else's folder: nothing says what was written
        (refined / record).unlink()
    for path in sorted(refined.glob("part*.jsonl")):
        write_captions(path, [replace(r, label_shown=True) for r in read_captions(path).values()])
    pack.run(pack.Config(root=root, dataset="demo7", workers=1, overwrite=True))
    trained = RunSummary("run", "demo7", "base", "tiny", "1", 0, 0, 0.0, "last", 0)
    monkeypatch.setattr("fclip.engine.train.run.train_run", lambda *_, **__: trained)
    for place, told in ((workspace, False), (root, True)):
        report = train.run(train.Config(root=place, dataset="demo7", variant="base", fold="1"))
        assert any("SAW THE LABEL" in line for line in report.lines) is told


def test_template_captions_are_not_journalled(workspace, tmp_path):
    caption.run(caption.Config(root=workspace, dataset="demo7", workers=1, limit=4, out=tmp_path / "c"))
    assert not [name for name in names(tmp_path / "c") if name.startswith(".")]

"""Text towers of other lengths and tokenizers: the hub's tokenizer, read when a text comes; captions that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_clip import CLASSES, add_config, build
from small_towers import LAST, add_tower
from test_finecliper_identity import check_identity
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from fclip.engine.batches.features import cut_captions
from fclip.errors import FclipError, UsageError
from fclip.models import create_model
from fclip.models.backbone.clip import load_clip
from fclip.models.baselines.coop import Coop
from tests.data.storage_files import packed_shard

WORDS = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "person", "with", "an", "expression", "no", "she", "x", *CLASSES]


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small CLIP whose tokenizer is one of the hub's form, in a folder: SigLIP's way of ending and filling a text."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    text = {**LAST, "hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"clean": "canonicalize"}}
    return add_config("fclip-lent", text=text, custom_text=True)


def test_a_tokenizer_of_the_hub(lent: str) -> None:
    clip = load_clip(lent, "random")
    ids = clip.tokenizer(["A photo of fear.", "she " * 40])
    assert ids.tolist() == [[3, 4, 5, WORDS.index("fear"), 1, *[0] * 11], [*[11] * 15, 1]]
    assert clip.tokenizer.frame == ([], [1], 0) and clip.tokenizer.words("Photo, of") == [4, 5]
    check_identity(build("star-dagger", clip=lent))
    model = create_model("coop", lent, CLASSES, 3, "random", context=4, init="a photo of a")
    assert isinstance(model, Coop)
    with torch.no_grad():
        expected = model.clip.encode_text(model.tokenizer([f"a photo of a {name}." for name in CLASSES]))
        torch.testing.assert_close(model.text_features(torch.zeros(1)), expected)


def test_without_it_one_line_says_so_and_only_texts_need_it() -> None:
    name = add_config("fclip-far", text={**LAST, "hf_tokenizer_name": "fclip/nowhere"}, custom_text=True)
    assert create_model("linear-probe", name, CLASSES, 2, "random").clip_name == name
    with pytest.raises(
        FclipError, match="CLIP fclip-far: its tokenizer fclip/nowhere is not in the cache.*run the com"
    ) as e:
        create_model("zeroshot-clip", name, CLASSES, 2, "random")
    assert "\n" not in str(e.value)


def test_captions_have_the_towers_own_length_and_cut_ones_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, clips = build("dagger", clip=add_tower("siglip")), build("dagger")
    assert (short.caption_context, clips.caption_context, build("base").caption_context) == (16, 248, 248)
    assert create_model("emoclip", add_tower("pe"), CLASSES, 3, "random").caption_context == 24
    monkeypatch.setattr("tests.data.storage_files.make_caption.__defaults__", ("The brows rise and fall " * 5,))
    path = packed_shard(tmp_path / "part1-00000.tar", ["part1-0", "part1-1"])
    assert cut_captions(short, [path]) == 2 and cut_captions(clips, [path]) == cut_captions(build("base"), [path]) == 0


def test_longclip_stays_clips(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Long-CLIP's weights are for a text tower of CLIP's form"):
        build("dagger", clip=add_tower("siglip"), longclip_weights=tmp_path / "longclip.pt")

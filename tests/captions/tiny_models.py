"""Tiny video language models with random weights, saved to disk as real ones are: config, weights, tokenizer, processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

VIDEO, IMAGE = "<video>", "<image>"
CHATS = {
    "video-llava": "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'video' %}<video>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:",
    "llava-onevision": "{% for m in messages %}<|im_start|>user {% for c in m['content'] %}{% if c['type'] == 'video' %}"
    "<video>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}<|im_start|>assistant\n",
    "qwen3-vl": "{% for m in messages %}<|im_start|>user\n{% for c in m['content'] %}{% if c['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n",
    "smolvlm": "{% for m in messages %}User: {% for c in m['content'] %}{% if c['type'] == 'video' %}<video>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}Assistant:",
}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def make_tokenizer(specials: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: every text has tokens, and every token is some text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["Ġbrows", "Ġlips", "Ġrise", "Ġthe"]
    merges: list[tuple[str, str]] = []
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    for word in words:
        built = word[0]
        for letter in word[1:]:
            merges.append((built, letter))
            built += letter
            vocabulary.setdefault(built, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ["<pad>", "<s>", "</s>", *specials]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="right", **named
    )


def clip_and_llama(vocabulary: int) -> dict[str, Any]:
    """The towers that Video-LLaVA and LLaVA-NeXT-Video share: CLIP for 28 x 28 pixels, Llama."""
    from transformers import CLIPVisionConfig, LlamaConfig

    return {
        "vision_config": CLIPVisionConfig(**VISION, image_size=28, patch_size=14, projection_dim=16),
        "text_config": LlamaConfig(**TEXT, vocab_size=vocabulary),
    }


def save_video_llava(folder: Path) -> None:
    """Video-LLaVA: CLIP towers for images and videos, Llama; 8 frames of 28 x 28."""
    from transformers import VideoLlavaConfig, VideoLlavaForConditionalGeneration, VideoLlavaProcessor
    from transformers.models.video_llava.image_processing_video_llava import VideoLlavaImageProcessor
    from transformers.models.video_llava.video_processing_video_llava import VideoLlavaVideoProcessor

    tokenizer = make_tokenizer([IMAGE, VIDEO])
    config = VideoLlavaConfig(
        **clip_and_llama(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        image_seq_length=4,
        video_seq_length=32,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    processor = VideoLlavaProcessor(
        VideoLlavaImageProcessor(**size),
        VideoLlavaVideoProcessor(**size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=CHATS["video-llava"],
    )
    _save(VideoLlavaForConditionalGeneration, config, processor, folder)


def save_llava_onevision(folder: Path) -> None:
    """LLaVA-OneVision: SigLIP and Qwen2; any number of frames of 28 x 28."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor
    from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

    tokenizer = make_tokenizer([IMAGE, VIDEO, "<|im_start|>", "<|im_end|>"])
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=28, patch_size=14),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[28, 28]],
    )
    size = {"size": {"height": 28, "width": 28}}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(**size, image_grid_pinpoints=[[28, 28]]),
        tokenizer,
        LlavaOnevisionVideoProcessor(**size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=CHATS["llava-onevision"],
    )
    _save(LlavaOnevisionForConditionalGeneration, config, processor, folder)


def save_qwen3_vl(folder: Path) -> None:
    """Qwen3-VL: needs frame times; the number of patches depends on the frame's size."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = make_tokenizer(names)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
    config = Qwen3VLConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    size = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**size),
        tokenizer,
        Qwen3VLVideoProcessor(**size, size={"shortest_edge": 1024, "longest_edge": 65536}),
        chat_template=CHATS["qwen3-vl"],
    )
    _save(Qwen3VLForConditionalGeneration, config, processor, folder)


def save_llava_next_video(folder: Path) -> None:
    """LLaVA-NeXT-Video: CLIP and Llama; any number of frames of 28 x 28."""
    from transformers import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration, LlavaNextVideoProcessor
    from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
    from transformers.models.llava_next_video.video_processing_llava_next_video import LlavaNextVideoVideoProcessor

    tokenizer = make_tokenizer([IMAGE, VIDEO])
    config = LlavaNextVideoConfig(
        **clip_and_llama(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    processor = LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**size),
        image_processor=LlavaNextImageProcessor(**size, image_grid_pinpoints=[[28, 28]]),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATS["video-llava"],
    )
    _save(LlavaNextVideoForConditionalGeneration, config, processor, folder, gain=20)


def save_internvl(folder: Path) -> None:
    """InternVL: its own tower and Qwen2; every frame is an image of its own in the prompt."""
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVisionConfig,
        Qwen2Config,
    )
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    places = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    names = [*places.values(), VIDEO, "<|im_start|>", "<|im_end|>"]
    tokenizer = make_tokenizer(names, extra_special_tokens=places | {"video_token": VIDEO})
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**VISION, image_size=[28, 28], patch_size=[14, 14]),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
        image_seq_length=1,
    )
    size = {"size": {"height": 28, "width": 28}}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**size),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**size),
        image_seq_length=1,
        chat_template=CHATS["llava-onevision"],
    )
    _save(InternVLForConditionalGeneration, config, processor, folder, gain=20)


def save_smolvlm(folder: Path) -> None:
    """SmolVLM2: SigLIP and Llama; frames are images with their times in the prompt (needs num2words)."""
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    places = {
        "image_token": IMAGE,
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
        "video_token": VIDEO,
    }
    tokenizer = make_tokenizer(list(places.values()), extra_special_tokens=places)
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(**VISION, image_size=28, patch_size=14),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    size = {"size": {"longest_edge": 28}, "max_image_size": {"longest_edge": 28}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**size),
        tokenizer=tokenizer,
        image_seq_len=1,
        video_processor=SmolVLMVideoProcessor(
            **size, video_sampling={"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 28}}
        ),
        chat_template=CHATS["smolvlm"],
    )
    _save(SmolVLMForConditionalGeneration, config, processor, folder, gain=20)


def _save(kind: Any, config: Any, processor: Any, folder: Path, gain: float = 8) -> None:
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the usual initialisation, so that inputs matter
            if parameter.ndim > 1:
                parameter.mul_(gain)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


SAVERS = {
    "video-llava": save_video_llava,
    "llava-onevision": save_llava_onevision,
    "qwen3-vl": save_qwen3_vl,
    "llava-next-video": save_llava_next_video,
    "internvl": save_internvl,
    "smolvlm2": save_smolvlm,
}

"""Which device computes, and in which precision; always said aloud, so that a GPU never stays unused in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fclip.errors import UsageError
from fclip.files import readable_size
from fclip.registry import Registry

if TYPE_CHECKING:
    import torch


def device_for(registry: Registry, thing: str, name: str) -> tuple[str, str]:
    """The device for --device `name` on which a registered thing runs, and the same in words.

    torch, which takes seconds to load, is not asked for a thing whose property `cpu_only` says that it never uses it.
    """
    if name in ("auto", "cpu") and registry.property(thing, "cpu_only", False):
        return "cpu", "cpu"
    device = choose_device(name)
    return str(device), describe_device(device)


def choose_device(name: str) -> torch.device:
    """The device for --device; "auto" takes the GPU when there is one. UsageError for one that cannot be used."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not usable here ({str(error).splitlines()[0]}); use auto or cpu") from None
    return device


def describe_device(device: torch.device) -> str:
    """The device in words: its name for a GPU, the number of threads for the CPU."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def devices_and_uses() -> list[str]:
    """The devices of this machine in words, each with what runs on it."""
    import torch

    lines = [f"{describe_device(torch.device('cpu'))}: everything"]
    for index in range(torch.cuda.device_count()):
        memory = readable_size(torch.cuda.get_device_properties(index).total_memory)
        name = describe_device(torch.device("cuda", index))
        lines.append(f"{name}, {memory}: train, eval, zeroshot, predict, facexformer, video language models")
    if not torch.cuda.is_available():
        lines.append("no GPU that this torch can use: training on CLIP ViT-B-16 is slow here, on tiny it is not")
    return lines


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The autocast dtype for --precision; "auto" is bf16 on a GPU that has it and fp32 on the CPU."""
    import torch

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name == "auto":
        gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if gpu else torch.float32
    if name not in kinds:
        raise UsageError(f"--precision {name}: choose auto, fp32, bf16 or fp16")
    return kinds[name]

"""Prompts for video language models: a text file with named placeholders, filled for one clip.

Three are built in (resources/captions/prompt*.txt). `default` asks for movements and is label-blind; a line with
`{label}` is left out unless the prompt is to be label-aware, so one file serves both. `paper` has the structure of
FineCLIPER's prompt in words of our own and always shows the label: instruction, example with input and answer, six
requirements (format, progression, role, use of the annotation, no emotion words, length), annotation. `simple` only
asks for the expression, to compare models (its Fig. 9).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fclip.config import option
from fclip.errors import FclipError, UsageError
from fclip.files import resource_text

BUILT_IN = {
    "default": "captions/prompt.txt",
    "paper": "captions/prompt_paper.txt",
    "simple": "captions/prompt_simple.txt",
}
WITH_LABEL = ("paper",)  # built-in prompts that are nothing without the label
PLACEHOLDERS = ("frames", "max_tokens", "label")
MOST_BYTES = 100_000
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class PromptOptions:
    """Options of a captioner that is asked with a prompt; that of its text is hashed with the captioner."""

    prompt: str = option(
        "default", "default (label-blind), paper (as the paper asks: shows the label), simple, or a file"
    )
    label_aware: bool = option(
        False, "show the label in the prompt too (leaks it); --prompt paper always does", output=True
    )
    allow_test_labels: bool = option(False, "allow prompts that show the label on test parts too")
    max_tokens: int = option(100, "longest caption in tokens", output=True)

    @property
    def shows_label(self) -> bool:
        """Whether the captioner is shown the labels of the clips."""
        return self.label_aware or self.prompt in WITH_LABEL


@dataclass(frozen=True)
class Prompt:
    """A prompt text with placeholders; sha256 is that of the text that clips are filled into."""

    text: str
    label_aware: bool

    @property
    def sha256(self) -> str:
        """Hash that caption records carry."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def fill(self, frames: int, max_tokens: int, label: str | None = None) -> str:
        """The prompt for one clip. Raises FclipError when it is label-aware and the clip has no label."""
        if self.label_aware and not label:
            raise FclipError(
                "the prompt is label-aware but the clip has no label; run without --label-aware and --prompt paper"
            )
        values = {"frames": str(frames), "max_tokens": str(max_tokens), "label": label or ""}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)


def load_prompt(name: str | Path = "default", label_aware: bool = False) -> Prompt:
    """Read a built-in prompt by name or a user's from a file; those of WITH_LABEL are label-aware in any case.

    Raises UsageError for an unknown placeholder, a missing `{label}`, an empty or missing file.
    """
    built_in, where = BUILT_IN.get(str(name)), f"--prompt {name}"
    text = resource_text(built_in) if built_in else _read(Path(name))
    label_aware = label_aware or name in WITH_LABEL
    unknown = sorted({name for name in _PLACEHOLDER.findall(text) if name not in PLACEHOLDERS})
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise UsageError(f"{where}: unknown placeholder {{{unknown[0]}}}; there are: {known}")
    if label_aware and "{label}" not in text:
        raise UsageError(f"{where}: --label-aware needs a line with {{label}} in the prompt")
    if not label_aware:
        text = "\n".join(line for line in text.splitlines() if "{label}" not in line)
    if not text.strip():
        raise UsageError(f"{where}: the prompt is empty")
    return Prompt(text.strip(), label_aware)


def _read(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"--prompt {path}: no such file, and no built-in prompt; there are: {', '.join(BUILT_IN)}")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{path}: over {MOST_BYTES:,} bytes; this is no prompt")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text; save it as UTF-8") from error

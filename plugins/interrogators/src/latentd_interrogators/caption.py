"""Captions by BLIP. This module imports torch and transformers, so only the worker uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latentd.api import ModelLoadError, check_regular
from latentd_interrogators.blip_file import read_blip_file
from latentd_interrogators.pixels import squashed

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPT = "a picture of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner:
    """A loaded BLIP model (``transformers.BlipForConditionalGeneration``) and its tokenizer."""

    model: Any  # transformers' types do not tell what its models give
    tokenizer: Any

    @torch.inference_mode()
    def caption(self, image: Image, *, beams: int, shortest: int, longest: int) -> str:
        """A caption for ``image``.

        :param beams: number of beams of the search.
        :param shortest: least number of tokens, the prompt included, as in BLIP's own code.
        :param longest: greatest number of tokens, the prompt included.
        """
        text = self.model.config.text_config
        prompt = [text.bos_token_id, *self.tokenizer.encode(PROMPT, add_special_tokens=False)]
        longest = max(longest, len(prompt) + 1)
        device = self.model.device
        written = self.model.generate(
            pixel_values=squashed(image, self.model.config.vision_config.image_size).to(device),
            # The model expects a whole sentence and drops its last token.
            input_ids=torch.tensor([[*prompt, text.sep_token_id]], device=device),
            do_sample=False,
            num_beams=beams,
            min_length=min(shortest, longest),
            max_length=longest,
        )
        caption: str = self.tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True)
        return caption.strip()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(parameter.nbytes for parameter in self.model.parameters())


def load_captioner(path: Path, device: str) -> Captioner:
    """The captioner in the folder or file ``path``, in float32 on ``device``.

    :raises ModelLoadError: it is damaged, or not a BLIP captioner.
    """
    from transformers import AutoTokenizer, BertTokenizer, BlipForConditionalGeneration

    check_regular(path.parent if path.is_file() else path)
    try:
        if path.is_file():
            model = read_blip_file(path)
            tokenizer = BertTokenizer.from_pretrained(str(path.parent), local_files_only=True)
        else:
            model = BlipForConditionalGeneration.from_pretrained(str(path), local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except ModelLoadError:
        raise
    except Exception as error:  # a damaged folder can raise anything in its readers
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"{path.name} cannot be loaded as a BLIP captioner: {reason}") from error
    module: nn.Module = model  # whose methods transformers lays over without types
    return Captioner(model=module.float().eval().requires_grad_(False).to(device), tokenizer=tokenizer)

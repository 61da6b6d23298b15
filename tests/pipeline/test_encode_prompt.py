"""Scripts encode further texts as the pipeline encodes prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentd.api import Generation, InvalidRequest, NoArgs, Script, encode_prompt, hookimpl
from latentd.testing import AppFactory, tiny_models

BODY = {"steps": 4, "width": 64, "height": 64, "seed": 7, "sampler_name": "Euler"}


class Encoding(Script[NoArgs]):
    """Encodes its ``text`` beside the prompt, and keeps both contexts of every step."""

    title = "Encoding"
    alwayson = always = True
    text: str | None = None

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def before_process(self, generation: Generation, args: NoArgs) -> None:
        with pytest.raises(InvalidRequest):
            encode_prompt(generation, "nothing is conditioned yet")

    def modify_conditioning(self, generation: Generation, args: NoArgs) -> None:
        context = encode_prompt(generation, self.text or generation.plan.prompts[0])
        self.pairs += [(context(step), generation.conditioning.at(step).context[0]) for step in range(4)]


class Plugin:
    """Brings the script."""

    def __init__(self) -> None:
        self.script = Encoding()

    @hookimpl
    def register_scripts(self) -> list[Script[Any]]:
        return [self.script]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "one.safetensors"
    tiny_models.write(path, tiny_models.checkpoint("sd1", 3, vae_widths=tiny_models.EIGHTH))
    return path


@pytest.mark.parametrize("prompt", ["a (red:1.3) ring", "a [red:blue:2] ring", "a ring <hypernet:none:0>"])
def test_a_further_text_is_encoded_as_a_prompt(latentd_app: AppFactory, checkpoint: Path, prompt: str) -> None:
    folder = latentd_app.data_dir / "models/Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / "one.safetensors").symlink_to(checkpoint)
    plugin = Plugin()
    client = latentd_app([plugin])
    assert client.post("/sdapi/v1/txt2img", json=BODY | {"prompt": prompt}).status_code == 200
    assert len(plugin.script.pairs) == 4
    assert all((ours == theirs).all() for ours, theirs in plugin.script.pairs)
    plugin.script.text = "another text"
    client.post("/sdapi/v1/txt2img", json=BODY | {"prompt": prompt})
    assert all((ours != theirs).any() for ours, theirs in plugin.script.pairs[4:])

"""Bodies become requests, and come back as AUTOMATIC1111 echoes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latentd.contributions import OptionSpec
from latentd.generations import Script
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.vae_files import VaeFiles
from latentd.options import OptionStore
from latentd.plugins.registry import Registries
from latentd.prompts.styles import Style
from latentd.sampling.catalogue import SAMPLERS_1_8, SCHEDULERS
from latentd.server.convert import echo, given_fields
from latentd.server.infotext_request import with_infotext
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest, Txt2ImgRequest

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded_echoes.json").read_text())


class Brush(Script):
    """Tells its arguments by an infotext."""

    title = "Brush"
    alwayson = True

    def from_infotext(self, entries: Any, args: Any, mode: str) -> Any:
        return args if "Brush size" not in entries else args or [entries["Brush size"], mode]


def reading(options: OptionStore | None = None, *, styles: Mapping[str, Style] | None = None) -> Any:
    """What reading an infotext needs of the services, on the core's samplers and an empty list of models."""
    registry = Registries()
    registry.samplers.add("core", SAMPLERS_1_8)
    registry.schedulers.add("core", SCHEDULERS)
    registry.scripts.add("core", [Brush()])
    return SimpleNamespace(
        options=options or OptionStore(),
        styles=SimpleNamespace(by_name=styles or {}),
        models=SimpleNamespace(
            named=lambda name: SimpleNamespace(title="here.safetensors") if name in ("abc", "here") else None,
            checkpoints=Checkpoints([], HashCache(Path("nowhere"))),
            vaes=VaeFiles([], HashCache(Path("nowhere"))),
        ),
        registry=registry,
    )


def _body(case: dict[str, Any]) -> GenerationBody:
    model = Img2ImgRequest if case["path"].endswith("img2img") else Txt2ImgRequest
    return model.model_validate(case["body"])


@pytest.mark.parametrize("case", RECORDED.values(), ids=RECORDED.keys())
def test_the_echo_is_that_of_the_original(case: dict[str, Any]) -> None:
    body = with_infotext(_body(case), reading())[0]
    shown = echo(body)
    assert shown == case["parameters"]
    assert list(shown) == list(case["parameters"])


def test_newer_fields_are_echoed_where_they_were_sent() -> None:
    assert "scheduler" not in echo(Txt2ImgRequest())
    assert echo(Txt2ImgRequest(scheduler="Karras"))["scheduler"] == "Karras"


def test_pictures_are_echoed_on_request_only() -> None:
    sent: dict[str, Any] = {"init_images": ["x"], "mask": "y"}
    assert echo(Img2ImgRequest(**sent))["init_images"] is None
    assert echo(Img2ImgRequest(**sent, include_init_images=True))["mask"] == "y"


def test_null_is_not_given() -> None:
    assert given_fields(Txt2ImgRequest.model_validate({"seed": None, "steps": 3})) == {"steps"}


def test_what_the_request_says_wins_over_its_infotext() -> None:
    text = "a cat\nSteps: 7, Sampler: DDIM, CFG scale: 4, Seed: 9, Size: 64x96, Clip skip: 2"
    body = Txt2ImgRequest(infotext=text, steps=3, override_settings={"CLIP_stop_at_last_layers": 4})
    filled = with_infotext(body, reading())[0]
    assert (filled.prompt, filled.steps, filled.seed, filled.width, filled.height) == ("a cat", 3, 9, 64, 96)
    assert filled.override_settings == {"CLIP_stop_at_last_layers": 4}


def test_an_infotext_without_noise_source_leaves_the_servers() -> None:
    options = OptionStore()
    options.update({"randn_source": "CPU"})
    body = Txt2ImgRequest(infotext="a\nSteps: 7, Sampler: DDIM, CFG scale: 4")
    assert "randn_source" not in (with_infotext(body, reading(options))[0].override_settings or {})
    named = Txt2ImgRequest(infotext="a\nSteps: 7, Sampler: DDIM, RNG: NV")
    assert (with_infotext(named, reading(options))[0].override_settings or {})["randn_source"] == "NV"


def test_keys_to_skip_are_not_taken_from_an_infotext() -> None:
    options = OptionStore()
    options.update({"infotext_skip_pasting": ["Seed", "Clip skip"]})
    body = Txt2ImgRequest(infotext="a cat\nSteps: 7, Sampler: DDIM, Seed: 9, Clip skip: 2")
    filled = with_infotext(body, reading(options))[0]
    assert (filled.steps, filled.seed) == (7, -1)
    assert "CLIP_stop_at_last_layers" not in (filled.override_settings or {})


END = "Steps: 7, CFG scale: 4, Seed: 9, Size: 64x96"


def filled(text: str, options: OptionStore | None = None, /, **fields: Any) -> tuple[GenerationBody, list[str]]:
    styles = fields.pop("known_styles", {})
    model = Img2ImgRequest if "init_images" in fields else Txt2ImgRequest
    return with_infotext(model(infotext=text, **fields), reading(options, styles=styles))


def overridden(body: GenerationBody) -> dict[str, Any]:
    return body.override_settings or {}


@pytest.mark.parametrize("schedule", [spec.label for spec in SCHEDULERS])
def test_a_schedule_becomes_the_field(schedule: str) -> None:
    body, warnings = filled(f"a\n{END}, Sampler: Euler, Schedule type: {schedule}")
    assert (body.scheduler, body.sampler_name, overridden(body), warnings) == (schedule, "Euler", {}, [])


@pytest.mark.parametrize("schedule", ["karras", "exponential", "polyexponential"])
def test_a_schedule_as_1_8_writes_it_becomes_its_option(schedule: str) -> None:
    body, _ = filled(f"a\n{END}, Sampler: Euler, Schedule type: {schedule}")
    assert (body.scheduler, overridden(body)) == (None, {"k_sched_type": schedule})
    given, _ = filled(f"a\n{END}, Sampler: Euler, Schedule type: {schedule}", scheduler="Simple")
    assert (given.scheduler, overridden(given)) == ("Simple", {})


def test_an_infotext_without_schedule_undoes_the_servers() -> None:
    options = OptionStore()
    options.update({"k_sched_type": "karras"})
    body, _ = filled(f"a\n{END}, Sampler: Euler", options)
    assert overridden(body) == {"k_sched_type": "Automatic"}


@pytest.mark.parametrize(
    ("named", "sampler"),
    [
        ("k_euler_a", "Euler a"),
        ("k_dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("euler A", "Euler a"),
        ("DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("Euler Beta", "Euler Beta"),
        ("nobody", "nobody"),
        ("euler_ancestral", "Euler a"),
        ("dpmpp_2m_karras", "DPM++ 2M Karras"),
        ("dpmpp_2m karras", "DPM++ 2M Karras"),
        ("dpmpp_3m_sde_gpu_exponential", "DPM++ 3M SDE Exponential"),
        ("dpm_2_ancestral_sgm_uniform", "DPM2 a SGM Uniform"),
        ("uni_pc_bh2_simple", "UniPC Simple"),
        ("res_multistep_karras", "res_multistep_karras"),
    ],
)
def test_other_programs_names_of_samplers_are_ours(named: str, sampler: str) -> None:
    assert filled(f"a\n{END}, Sampler: {named}")[0].sampler_name == sampler


@pytest.mark.parametrize(
    ("text", "scheduler"),
    [
        ("Scheduler: karras", "Karras"),
        ("Scheduler: ddim_uniform", "DDIM"),
        ("Scheduler: Align Your Steps", "Align Your Steps"),
        ("Schedule type: Beta, Scheduler: karras", "Beta"),
    ],
)
def test_the_schedule_of_comfyuis_pictures_is_the_requests(text: str, scheduler: str) -> None:
    assert filled(f"a\n{END}, Sampler: euler, {text}")[0].scheduler == scheduler


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("VAE: nowhere.pt", "VAE 'nowhere.pt' is not taken over"),
        ("Emphasis: Weird", "Emphasis 'Weird' is not taken over"),
        ("Model hash: 0123456789, Model: gone", "Model hash '0123456789' is not taken over"),
    ],
)
def test_what_is_not_here_is_told_and_not_taken_over(text: str, known: str) -> None:
    options = OptionStore()
    options.update({"disable_weights_auto_swap": False})
    body, warnings = filled(f"a\n{END}, Sampler: Euler, {text}", options)
    assert overridden(body) == {}
    assert [warning for warning in warnings if known in warning] == warnings != []


@pytest.mark.parametrize("text", ["Model hash: abc, Model: else", "Model hash: 0123456789, Model: here"])
def test_the_checkpoint_is_found_by_hash_or_name(text: str) -> None:
    options = OptionStore()
    options.update({"disable_weights_auto_swap": False})
    body, _ = filled(f"a\n{END}, Sampler: Euler, {text}", options)
    assert overridden(body) == {"sd_model_checkpoint": "here.safetensors"}
    assert overridden(filled(f"a\n{END}, Sampler: Euler, {text}")[0]) == {}


def test_our_own_infotexts_say_what_they_leave_out() -> None:
    options = OptionStore()
    options.update({"randn_source": "CPU"})
    body, _ = filled(f"a\n{END}, Sampler: Euler, Seed resize from: 64x96, Version: latentd-1", options)
    assert overridden(body) == {"randn_source": "GPU"}
    assert (body.seed_resize_from_w, body.seed_resize_from_h) == (64, 96)


def test_fields_that_options_of_their_name_do_not_reach() -> None:
    text = f"a\n{END}, Sampler: Euler, NGMS: 2.0, Noise multiplier: 0.5, Image CFG scale: 1.25"
    drawn, changed = filled(text)[0], filled(text, init_images=["x"])[0]
    assert isinstance(changed, Img2ImgRequest)
    assert drawn.s_min_uncond == changed.s_min_uncond == 2.0
    assert (changed.initial_noise_multiplier, changed.image_cfg_scale) == (0.5, 1.25)


def test_the_use_of_a_mask_is_taken_over_where_there_is_one() -> None:
    text = f"a\n{END}, Sampler: Euler, Denoising strength: 0.5, Mask blur: 7, Masked content: latent noise"
    body = filled(text, init_images=["x"], mask="m")[0]
    assert isinstance(body, Img2ImgRequest)
    assert (body.mask_blur, body.inpainting_fill, body.inpaint_full_res) == (7, 2, False)
    plain = filled(text, init_images=["x"])[0]
    assert isinstance(plain, Img2ImgRequest)
    assert (plain.mask_blur, plain.inpaint_full_res) == (None, True)


def test_styles_are_taken_out_only_where_they_can_be_put_back() -> None:
    styles = {"s": Style(name="s", prompt="shiny", negative_prompt="")}
    apart = filled(f"a cat, shiny\n{END}, Sampler: Euler", known_styles=styles)[0]
    assert (apart.prompt, apart.styles) == ("a cat", ["s"])
    within = filled(f"a catshiny\n{END}, Sampler: Euler", known_styles=styles)[0]
    assert (within.prompt, within.styles) == ("a catshiny", None)


def test_scripts_are_asked_for_their_arguments() -> None:
    text = f"a\n{END}, Sampler: Euler, Brush size: 5"
    assert filled(text)[0].alwayson_scripts == {"Brush": {"args": ["5", "txt2img"]}}
    assert filled(text, alwayson_scripts={"brush": {"args": [1]}})[0].alwayson_scripts == {"brush": {"args": [1]}}
    assert filled(f"a\n{END}, Sampler: Euler")[0].alwayson_scripts == {}


def test_an_option_of_a_plugin_is_read_by_its_key() -> None:
    options = OptionStore()
    options.register("p", [OptionSpec(key="p_size", default=3, help="", infotext="Plug size")])
    assert overridden(filled(f"a\n{END}, Sampler: Euler, Plug size: 5", options)[0]) == {"p_size": "5"}

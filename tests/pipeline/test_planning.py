"""What a request becomes before anything is computed, and which requests are refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentd.errors import InvalidRequest, LatentdError, NotConfigured, NotFound
from latentd.generations import Plan
from latentd.pipeline.planning.build import build_plan
from latentd.server.services import AppServices, create_services
from latentd.settings import Settings
from latentd.types import GenerationRequest

Build = Callable[..., Plan]


@pytest.fixture(scope="module")
def services(reference_data: Path) -> Iterator[AppServices]:
    services = create_services(Settings(data_dir=str(reference_data), core_only=True), serve_http=False)
    yield services
    services.close()


@pytest.fixture
def build(services: AppServices) -> Build:
    def build(**fields: Any) -> Plan:
        return build_plan(GenerationRequest(**fields), services)

    return build


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.new("RGB", (width, height), "red")


def test_seeds_count_up_over_all_pictures(build: Build) -> None:
    plan = build(seed=10, subseed=3, batch_size=2, n_iter=2)
    assert plan.seeds == (10, 11, 12, 13)
    assert plan.subseeds == (3, 4, 5, 6)


def test_a_variation_keeps_the_seed_and_counts_the_subseed(build: Build) -> None:
    plan = build(seed=10, subseed=3, subseed_strength=0.5, batch_size=3)
    assert plan.seeds == (10, 10, 10)
    assert plan.subseeds == (3, 4, 5)


def test_random_seeds_are_in_the_original_range_and_differ(build: Build) -> None:
    seeds = {build(seed=-1).seeds[0] for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed <= 4294967293 for seed in seeds)


def test_a_plan_can_be_sent_to_another_process(build: Build) -> None:
    plan = build(prompt="a cat", enable_hr=True)
    assert pickle.loads(pickle.dumps(plan)).prompts == plan.prompts


def test_styles_wrap_prompts_and_comments_go(build: Build) -> None:
    plan = build(prompt="a cat # or a dog", negative_prompt="fog", styles=("shiny",))
    assert plan.prompts == ("a cat \n",)
    assert plan.negative_prompts == ("fog, blurry",)


def test_no_sampler_named_means_euler(build: Build) -> None:
    assert build().sampler.spec.name == "Euler"


@pytest.mark.parametrize(
    ("name", "scheduler", "label"),
    [
        ("DPM++ 2M Karras", None, "DPM++ 2M Karras"),
        ("DPM++ 2M", "Automatic", "DPM++ 2M Karras"),
        ("DPM++ 2M", None, "DPM++ 2M"),
    ],
)
def test_both_spellings_of_a_schedule(build: Build, name: str, scheduler: str | None, label: str) -> None:
    assert build(sampler_name=name, scheduler=scheduler).sampler.spec.name == label


def test_a_schedule_that_nobody_knows_is_automatic_with_a_warning(build: Build) -> None:
    plan = build(sampler_name="DPM++ 2M", scheduler="Karas")
    assert plan.sampler.spec.name == "DPM++ 2M Karras"
    assert plan.warnings == ("scheduler 'Karas' is not known, Automatic is used: did you mean 'Karras'?",)
    hires = build(enable_hr=True, hr_scheduler="Bogus")
    assert hires.hires is not None
    assert hires.hires.sampler.spec.name == "Euler"
    assert [text for text in hires.warnings if "'Bogus'" in text]
    assert build(scheduler="Turbo").warnings == () == build(scheduler="").warnings == build(scheduler="kArras").warnings


def test_a_schedule_that_cannot_act_is_told(build: Build) -> None:
    (warning,) = build(sampler_name="DDIM", scheduler="Karras").warnings
    assert warning == "scheduler 'Karras' has no effect: DDIM runs on timesteps of its own"
    assert build(sampler_name="DDIM", scheduler="Automatic").warnings == ()


@pytest.mark.parametrize(
    ("fields", "sampler", "schedule", "texts"),
    [
        ({}, "Euler", None, {}),
        ({"hr_scheduler": "Karras"}, "Euler", "karras", {"Hires schedule type": "Karras"}),
        ({"hr_sampler_name": "LMS"}, "LMS", None, {"Hires sampler": "LMS"}),
        ({"hr_sampler_name": "DPM++ 2M"}, "DPM++ 2M", None, {"Hires sampler": "DPM++ 2M"}),
        ({"scheduler": "Simple"}, "Euler", "simple", {}),
        ({"scheduler": "Simple", "hr_sampler_name": "LMS"}, "LMS", "simple", {"Hires sampler": "LMS"}),
        (
            {"scheduler": "Simple", "hr_sampler_name": "LMS Karras"},
            "LMS Karras",
            None,
            {"Hires sampler": "LMS Karras", "Hires schedule type": "Automatic"},
        ),
        (
            {"scheduler": "Simple", "hr_sampler_name": "LMS", "hr_scheduler": "Beta"},
            "LMS",
            "beta",
            {"Hires sampler": "LMS", "Hires schedule type": "Beta"},
        ),
        (
            {"scheduler": "Automatic", "hr_sampler_name": "DPM++ 2M"},
            "DPM++ 2M Karras",
            None,
            {"Hires sampler": "DPM++ 2M Karras"},
        ),
        (
            {"sampler_name": "Euler Karras", "hr_sampler_name": "DPM++ 2M"},
            "DPM++ 2M",
            None,
            {"Hires sampler": "DPM++ 2M", "Hires schedule type": "Uniform"},
        ),
    ],
)
def test_the_second_passs_sampler_and_schedule(
    build: Build, fields: dict[str, Any], sampler: str, schedule: str | None, texts: dict[str, str]
) -> None:
    plan = build(enable_hr=True, **fields)
    assert plan.hires is not None
    choice = plan.hires.sampler
    assert (choice.spec.name, choice.scheduler and choice.scheduler.name) == (sampler, schedule)
    assert {
        key: plan.infotext[key] for key in ("Hires sampler", "Hires schedule type") if key in plan.infotext
    } == texts


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"sampler_name": "Eular"}, NotFound, "Sampler not found"),
        ({"steps": 0}, InvalidRequest, "steps"),
        ({"width": 4}, InvalidRequest, "width and height"),
        ({"width": -64, "height": -64}, InvalidRequest, "width and height"),
        ({"batch_size": 0}, InvalidRequest, "batch_size"),
        ({"mode": "img2img"}, NotFound, "Init image not found"),
        ({"mode": "img2img", "init_images": (picture(), picture())}, InvalidRequest, "bad number of images"),
        ({"enable_hr": True, "hr_upscaler": "Lancsoz"}, NotFound, "could not find upscaler named"),
        ({"enable_hr": True, "hr_checkpoint_name": "nope"}, NotFound, "Could not find checkpoint"),
        ({"refiner_checkpoint": "nope"}, NotFound, "Could not find checkpoint"),
        ({"firstphase_width": 64}, InvalidRequest, "firstphase"),
        ({"restore_faces": True}, NotConfigured, "Face restorer"),
        ({"script_name": "nope"}, InvalidRequest, "Script 'nope' not found"),
        ({"script_name": "seed"}, InvalidRequest, "Script 'seed' not found"),
        ({"alwayson_scripts": {"nope": {"args": []}}}, InvalidRequest, "Script 'nope' not found"),
        ({"override_settings": {"CLIP_stop_at_last_layers": "two"}}, InvalidRequest, "CLIP_stop_at_last_layers"),
        ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, InvalidRequest, "different number of prompts"),
    ],
)
def test_what_is_refused(build: Build, fields: dict[str, Any], error: type[LatentdError], words: str) -> None:
    with pytest.raises(error) as caught:
        build(**fields)
    assert words in caught.value.detail or words in (caught.value.hint or "")
    assert 400 <= caught.value.status < 500


def test_a_near_name_is_offered(build: Build) -> None:
    with pytest.raises(NotFound) as caught:
        build(sampler_name="Eular")
    assert "'Euler'" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("fields", "size", "cut"),
    [
        ({"hr_scale": 1.5}, (192, 96), (0, 0)),
        ({"hr_resize_x": 256}, (256, 128), (0, 0)),
        ({"hr_resize_y": 128}, (256, 128), (0, 0)),
        ({"hr_resize_x": 256, "hr_resize_y": 256}, (512, 256), (32, 0)),
    ],
)
def test_hires_sizes(build: Build, fields: dict[str, Any], size: tuple[int, int], cut: tuple[int, int]) -> None:
    plan = build(enable_hr=True, width=128, height=64, **fields)
    assert plan.hires is not None
    assert (plan.hires.width, plan.hires.height) == size
    assert (plan.hires.truncate_x, plan.hires.truncate_y) == cut


def test_hires_without_a_strength_takes_the_usual_one(build: Build) -> None:
    plan = build(enable_hr=True)
    assert plan.hires is not None
    assert plan.hires.denoising_strength == 0.75
    assert plan.infotext["Denoising strength"] == 0.75


def test_firstphase_fields_give_the_first_size(build: Build) -> None:
    plan = build(width=512, height=512, firstphase_width=64, firstphase_height=128)
    assert (plan.width, plan.height) == (64, 128)


def test_overrides_stay_in_the_plan(build: Build, services: AppServices) -> None:
    before = services.options["CLIP_stop_at_last_layers"]
    plan = build(override_settings={"CLIP_stop_at_last_layers": 2, "no_such_option": 1})
    assert plan.options["CLIP_stop_at_last_layers"] == 2
    assert services.options["CLIP_stop_at_last_layers"] == before


@pytest.mark.parametrize("name", ["tiny-bb", "tiny-bb.safetensors [0123456789]", "nope"])
def test_an_unknown_checkpoint_in_overrides_is_not_found(build: Build, name: str) -> None:
    with pytest.raises(NotFound, match=re.escape(f"model {name!r} not found")) as caught:
        build(override_settings={"sd_model_checkpoint": name})
    assert "tiny-b" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["TINY-B.safetensors", "models\\tiny-b.safetensors [0123456789]"])
def test_a_checkpoint_in_overrides_is_found_in_another_spelling(build: Build, name: str) -> None:
    assert build(override_settings={"sd_model_checkpoint": name}).checkpoint.startswith("tiny-b.")


@pytest.mark.parametrize("name", [None, "", "None"])
def test_no_checkpoint_in_overrides_is_the_selected_one(build: Build, name: str | None) -> None:
    assert build(override_settings={"sd_model_checkpoint": name}).checkpoint == build().checkpoint


def test_several_init_images_are_their_own_batch(build: Build) -> None:
    plan = build(mode="img2img", init_images=(picture(), picture()), batch_size=3)
    assert plan.batch_size == 2


SECTIONS: dict[str, list[Any]] = {
    "API payload": [],
    "Comments": [],
    "Extra options": [],
    "Hypertile": [],
    "Refiner": [False, "", 0.8],
    "Sampler": [20, "DPM++ 2M", "Automatic"],
    "Seed": [-1, False, -1, 0, 0, 0],
}


def test_sections_of_the_form_are_accepted_without_effect(build: Build) -> None:
    """As the page sends them with nothing changed: every title that A1111 has built in, 1.8 to 1.10."""
    plan = build(alwayson_scripts={title: {"args": args} for title, args in SECTIONS.items()})
    assert (plan.alwayson, plan.refiner, plan.warnings) == ((), None, ())


@pytest.mark.parametrize(
    ("title", "args", "told"),
    [
        ("Refiner", [True, "x", 0.5], ["'Checkpoint' (refiner_checkpoint", "'Switch at' (refiner_switch_at"]),
        ("sampler", [12, "Euler a", "Karras"], ["'Sampling steps' (steps", "'Sampling method'", "'Schedule type'"]),
        ("Seed", [5, True, 7, 0.25, 0, 0], ["'Seed' (seed", "'Variation seed'", "'Variation strength'"]),
        ("Seed", [5, False, 7, 0.25, 0, 0], ["'Seed' (seed"]),
        ("Seed", {"seed": 5}, ["argument 'seed'"]),
        ("Comments", [1], ["script 'Comments': no effect of arguments"]),
    ],
)
def test_what_a_section_of_the_form_is_given_is_told(build: Build, title: str, args: Any, told: list[str]) -> None:
    warnings = build(alwayson_scripts={title: {"args": args}}).warnings
    assert len(warnings) == len(told)
    for text, warning in zip(told, warnings, strict=True):
        assert text in warning


def test_sections_that_repeat_the_request_are_not_told(build: Build) -> None:
    plan = build(
        seed=5, steps=12, sampler_name="Euler a", scheduler="Karras",
        alwayson_scripts={"Seed": {"args": [5, False]}, "Sampler": {"args": [12, "Euler a", "Karras"]}},
    )  # fmt: skip
    assert plan.warnings == ()


def test_a_unit_of_arguments_without_args_is_told(build: Build) -> None:
    plan = build(alwayson_scripts={"Seed": {"image": "x", "module": "canny"}, "Refiner": {"args": [], "enabled": True}})
    assert [text.partition(" has no")[0] for text in plan.warnings] == [
        "alwayson_scripts.Seed: 'image', 'module'",
        "alwayson_scripts.Refiner: 'enabled'",
    ]


def test_a_first_pass_without_hires_fix_is_told(build: Build) -> None:
    told = ("firstpass_image has no effect without hires fix",)
    assert build(firstpass_image=picture()).warnings == told
    assert build(mode="img2img", init_images=(picture(),), firstpass_image=picture()).warnings == told
    assert build(firstpass_image=picture(), enable_hr=True).warnings == ()

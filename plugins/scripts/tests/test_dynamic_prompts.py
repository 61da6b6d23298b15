"""The script Dynamic Prompts, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import latentd_scripts
import numpy as np
import pytest

from latentd.api import InvalidRequest, NoArgs, Plan, Script, Services, hookimpl
from latentd.testing import AppFactory

NAME = "Dynamic Prompts v2.17.1"
TEMPLATE = "a {red|2::blue|__colour__} ring, {2$$ and $$big|thin|old}"
#: What a page of AUTOMATIC1111's sends.
SENT = [True, False, 1, False, False, False, 1.1, 1.5, 100, 0.7, False, False, True, False, False, 0,
        "Gustavosta/MagicPrompt-Stable-Diffusion", ""]  # fmt: skip


def asked(*args: Any, **named: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {NAME: {"args": list(args) or named}}}


class Shown(Script[NoArgs]):
    """Keeps the plan that it sees, and ends the request."""

    title = "shown"
    alwayson = True

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def plan(self, plan: Plan, args: NoArgs, services: Services) -> None:
        self.plans.append(plan)
        raise InvalidRequest("only planned")

    @hookimpl
    def register_scripts(self) -> list[Any]:
        return [self]


@pytest.fixture(scope="module", autouse=True)
def lists(data: Path) -> None:
    (data / "wildcards/deep").mkdir(parents=True)
    (data / "wildcards/colour.txt").write_text("green\nwhite\nblack\n")
    (data / "wildcards/deep/shapes.yaml").write_text("shape: [ring, cube]\n")


@pytest.fixture(scope="module")
def plan_of(data: Path) -> Iterator[Callable[..., Plan]]:
    """``plan_of(**fields)``: the plan that the other scripts see."""
    factory, shown = AppFactory(data), Shown()
    client = factory([latentd_scripts, shown])

    def planned(**fields: Any) -> Plan:
        scripts = {"shown": {"args": []}, **fields.pop("alwayson_scripts", {})}
        reply = client.post("/sdapi/v1/txt2img", json={"seed": 20, "alwayson_scripts": scripts, **fields})
        assert "only planned" in reply.text, reply.text
        return shown.plans.pop()

    yield planned
    factory.close()


def test_a_thousand_prompts_of_a_seed_are_the_same_twice(plan_of: Callable[..., Plan]) -> None:
    body = {"prompt": TEMPLATE, "negative_prompt": "{grey|__colour__}", "batch_size": 10, "n_iter": 100}
    first, second = (plan_of(**body, **asked(*SENT)) for _ in range(2))
    assert len(first.prompts) == 1000
    assert (first.prompts, first.negative_prompts) == (second.prompts, second.negative_prompts)
    assert len(set(first.prompts)) == 5 * 6
    assert first.infotext["Template"] == TEMPLATE
    assert first.infotext["Negative Template"] == "{grey|__colour__}"
    # Each text is that of its own seed, however many pictures are asked for.
    for place in range(0, 1000, 40):
        alone = plan_of(prompt=TEMPLATE, negative_prompt="{grey|__colour__}", **asked(*SENT) | {"seed": 20 + place})
        assert alone.prompts == (first.prompts[place],)
        assert alone.negative_prompts == (first.negative_prompts[place],)


def test_a_picture_is_reproduced_by_its_infotext(draw: Callable[..., Any]) -> None:
    reply = draw(prompt=TEMPLATE, n_iter=4, **asked(*SENT))
    assert len(set(reply.info["all_prompts"])) > 1
    assert reply.info["extra_generation_params"]["Template"] == TEMPLATE
    for number, text in enumerate(reply.info["infotexts"]):
        image = reply.images[-4:][number]
        again = draw(prompt=None, seed=None, infotext=text, override_settings={"dynamic_prompts_always": True})
        assert np.array_equal(again.images[0], image)
        template = draw(prompt=TEMPLATE, seed=reply.info["all_seeds"][number], **asked(*SENT))
        assert template.info["prompt"] == reply.info["all_prompts"][number]
        assert np.array_equal(template.images[0], image)


@pytest.mark.parametrize("name", ["dynamic prompts v2.16.3", "Dynamic Prompts v2.0.0", "dynamic prompts"])
def test_clients_name_other_versions(plan_of: Callable[..., Plan], name: str) -> None:
    assert plan_of(prompt="{a|a}", alwayson_scripts={name: {"args": []}}).prompts == ("a",)


def test_without_the_script_or_the_option_braces_are_text(plan_of: Callable[..., Plan]) -> None:
    assert plan_of(prompt=TEMPLATE).prompts == (TEMPLATE,)
    assert plan_of(prompt=TEMPLATE, **asked(is_enabled=False)).prompts == (TEMPLATE,)


def test_the_option_expands_every_prompt(plan_of: Callable[..., Plan]) -> None:
    always = {"override_settings": {"dynamic_prompts_always": True}}
    assert plan_of(prompt="{a|a} __deep/shape__", **always).prompts[0] in ("a ring", "a cube")
    assert plan_of(prompt="{a|a}", **always, **asked(is_enabled=False)).prompts == ("{a|a}",)
    broken = plan_of(prompt="{a|b", **always)
    assert broken.prompts == ("{a|b",)
    assert "not closed" in " ".join(broken.warnings)


def test_a_job_is_left_free_to_share_batches(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt="{a|a}", **asked(*SENT))
    assert [call.script.title for call in plan.alwayson] == ["shown"]


def test_every_combination_is_a_picture(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt="{a|b|c} {x|y}", negative_prompt="{p|q}", batch_size=4, n_iter=9, **asked(True, True))
    assert plan.prompts == tuple(f"{a} {b}" for a in "abc" for b in "xy" for _ in "pq")
    assert plan.negative_prompts == ("p", "q") * 6
    assert (plan.batch_size, plan.n_iter, plan.seeds) == (4, 3, tuple(range(20, 32)))


def test_combinations_are_bounded_and_repeated(plan_of: Callable[..., Plan]) -> None:
    some = {"is_combinatorial": True, "max_generations": 3, "combinatorial_batches": 2, "use_fixed_seed": True}
    plan = plan_of(prompt="{a|b|c|d}", negative_prompt="{p|q}", **asked(**some))
    assert plan.prompts == tuple("abcabc")
    assert plan.negative_prompts == tuple("pqppqp")
    assert plan.seeds == (20, 20, 20, 21, 21, 21)


def test_a_fixed_seed_is_the_pictures_and_not_the_texts(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt="{a|b|c|d|e|f|g|h}", n_iter=8, **asked(use_fixed_seed=True))
    drawn = plan_of(prompt="{a|b|c|d|e|f|g|h}", n_iter=8, **asked(*SENT))
    assert plan.prompts == drawn.prompts
    assert plan.seeds == (20,) * 8
    assert [entry.get("Template seed") for entry in plan.own_infotext] == [None, *range(21, 28)]


def test_an_unlinked_text_notes_the_seed_that_drew_it(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt=TEMPLATE, n_iter=4, **asked(unlink_seed_from_prompt=True))
    for text, entry in zip(plan.prompts, plan.own_infotext, strict=True):
        assert plan_of(prompt=TEMPLATE, **asked(*SENT) | {"seed": entry["Template seed"]}).prompts == (text,)
    assert plan.seeds == (20, 21, 22, 23)


def test_a_variation_keeps_its_text(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt=TEMPLATE, n_iter=6, subseed=3, subseed_strength=0.2, **asked(*SENT))
    assert len(set(plan.prompts)) == 1
    assert plan.subseeds == tuple(range(3, 9))


def test_the_second_pass_has_the_text_of_the_first_or_its_own(plan_of: Callable[..., Plan]) -> None:
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "n_iter": 4}
    plan = plan_of(prompt=TEMPLATE, negative_prompt="{x|y}", **hires, **asked(*SENT))
    assert plan.hires is not None
    assert (plan.hires.prompts, plan.hires.negative_prompts) == (plan.prompts, plan.negative_prompts)
    plan = plan_of(prompt=TEMPLATE, hr_prompt="{a|a} cat", **hires, **asked(is_combinatorial=True))
    assert plan.hires is not None
    assert plan.hires.prompts == ("a cat",) * 30


def test_styles_may_have_templates_and_tags(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(prompt="<lora:{one|one}:1> x", **asked(*SENT))
    assert plan.prompts == ("<lora:one:1> x",)


def test_white_space_is_tidied_on_request(plan_of: Callable[..., Plan]) -> None:
    tidy = {"override_settings": {"dp_ignore_whitespace": True, "dp_write_raw_template": False}}
    plan = plan_of(prompt="a\n  {b|b}\tc", **tidy, **asked(*SENT))
    assert plan.prompts == ("a b c",)
    assert "Template" not in plan.infotext


def test_pictures_of_listed_prompts_have_templates_of_their_own(draw: Callable[..., Any]) -> None:
    args = [False, True, "positive", "comma", 0]
    reply = draw(prompt="a __deep/shape__|red", script_name="prompt matrix", **asked(*SENT), script_args=args)
    plain, red = reply.info["all_prompts"]
    assert (plain in ("a ring", "a cube"), red in ("a ring, red", "a cube, red")) == (True, True)
    first, second = reply.info["infotexts"][-2:]
    assert "Template: a __deep/shape__, " in first
    assert 'Template: "a __deep/shape__, red"' in second


def test_combinations_of_a_picture_fill_no_whole_batch(draw: Callable[..., Any], picture: str) -> None:
    for path, more in (("txt2img", {}), ("img2img", {"init_images": [picture], "denoising_strength": 0.5})):
        reply = draw(path, prompt="{red|blue|green}", batch_size=2, **more, **asked(True, True))
        assert reply.info["all_prompts"] == ["red", "blue", "green"]
        for number, colour in enumerate(("red", "blue", "green")):
            alone = draw(path, prompt=colour, seed=7 + number, **more)
            assert np.abs(reply.images[-3:][number].astype(int) - alone.images[0]).max() <= 2


# --- what is told and refused ----------------------------------------------------------------------------------------


def test_what_cannot_act_is_told(draw: Callable[..., Any]) -> None:
    reply = draw(prompt="a __nothing__ {b|b}", **asked(is_magic_prompt=True, is_feeling_lucky=True))
    assert reply.info["prompt"] == "a __nothing__ b"
    told = " ".join(reply.info["warnings"])
    assert all(word in told for word in ("__nothing__", "is_magic_prompt", "is_feeling_lucky"))


@pytest.mark.parametrize(
    ("prompt", "args", "status"),
    [
        ("{a|b", {}, 422),
        ("${unset}", {}, 422),
        ("{% for x in y %}", {"enable_jinja_templates": True}, 422),
        ("{a|b}" * 12, {"is_combinatorial": True}, 413),
        ("{a|b}", {"max_generations": -1}, 422),
        ("${a=" + "x" * 5000 + "}" + "${a}" * 50, {}, 413),
    ],
)
def test_what_cannot_be_expanded_is_refused(
    send: Callable[..., Any], prompt: str, args: dict[str, Any], status: int
) -> None:
    reply = send("txt2img", prompt=prompt, **asked(is_enabled=True, **args))
    assert reply.status_code == status, reply.text

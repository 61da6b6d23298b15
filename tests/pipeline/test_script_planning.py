"""What always-on scripts may do while a request is planned: order, being finished, infotexts of single pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import BASE, drawing_on, services_on

from latentd.api import GenerationRequest, Mode, NoArgs, Plan, Planned, Script, Services, hookimpl
from latentd.errors import InvalidRequest
from latentd.pipeline.planning.build import build_plan
from latentd.server.services import AppServices


class Noter(Script[NoArgs]):
    """Adds its title to the prompts and, when it is finished with planning, its number to the pictures' infotexts."""

    alwayson = True

    def __init__(
        self, title: str, order: int, finished: bool, modes: tuple[Mode, ...] = ("txt2img", "img2img")
    ) -> None:
        self.title = title
        self.order = order
        self.finished = finished
        self.modes = modes

    def plan(self, plan: Plan, args: NoArgs, services: Services) -> Planned[NoArgs]:
        changed = plan.with_changes(prompts=tuple(f"{prompt}, {self.title}" for prompt in plan.prompts))
        if self.finished:
            own = tuple({"Number": number} for number in range(len(plan.prompts)))
            changed = changed.with_changes(own_infotext=own)
        return Planned(plan=changed, finished=self.finished)


class Plugin:
    @hookimpl
    def register_scripts(self) -> list[Any]:
        repainting = Noter("repainting", 5, finished=False, modes=("img2img",))
        others = (("red", 5, False), ("apple", -5, True), ("big", 5, False))
        return [*(Noter(title, order, finished) for title, order, finished in others), repainting]


@pytest.fixture
def services(data: Path) -> Iterator[AppServices]:
    services = services_on(data, plugins=[("noter", Plugin())])
    yield services
    services.close()


def asked(*titles: str) -> dict[str, Any]:
    return {"alwayson_scripts": {title: {"args": []} for title in titles}}


def test_scripts_are_planned_in_their_order_and_then_as_sent(services: AppServices) -> None:
    plan = build_plan(GenerationRequest(**{**BASE, "prompt": "an", **asked("big", "red", "apple")}), services)
    assert plan.prompts == ("an, apple, big, red",)


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        (asked("Repainting"), "it is a script of img2img alone"),
        ({"script_name": "repainting"}, "it is a script of img2img alone"),
        ({"script_name": "big"}, "it is an always-on script: its place is alwayson_scripts"),
    ],
)
def test_a_script_in_a_wrong_place_is_told_its_own(services: AppServices, fields: dict[str, Any], hint: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Script '.*' not found") as refused:
        build_plan(GenerationRequest(**BASE, **fields), services)
    assert refused.value.hint == hint


def test_a_script_that_is_finished_has_no_part_in_the_job(services: AppServices) -> None:
    plan = build_plan(GenerationRequest(**BASE, **asked("big", "apple")), services)
    assert [call.script.title for call in plan.alwayson] == ["big"]


def test_a_picture_has_infotext_entries_of_its_own(services: AppServices) -> None:
    result = drawing_on(services)({}, **asked("apple"), batch_size=2, n_iter=2)
    numbers = [text.split("Number: ")[1].split(",")[0] for text in result.info["infotexts"]]
    assert numbers == ["0", "1", "2", "3"]

"""Look-ups in registries, and what is said when a name is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from latentd.contributions import Contribution, InterrogatorSpec, Script, UpscalerSpec
from latentd.errors import NotFound
from latentd.plugins.catalogue import package_hint, path_hint
from latentd.plugins.registry import Registries


def upscaler(name: str) -> UpscalerSpec:
    return UpscalerSpec(name=name, upscale=lambda image, scale, context: image)


def script(title: str) -> Script:
    made = Script()
    made.title = title
    return made


@pytest.fixture
def registries() -> Registries:
    found = Registries()
    found.commit(
        Contribution(plugin="a", upscalers=[upscaler("Fine"), upscaler("Coarse")], scripts=[script("My Script")])
    )
    return found


def test_names_keep_their_order_and_owner(registries: Registries) -> None:
    assert list(registries.upscalers) == ["Fine", "Coarse"]
    assert registries.upscalers.owner("Fine") == "a"


def test_scripts_are_found_in_any_case_and_upscalers_exactly(registries: Registries) -> None:
    assert registries.scripts["my sCRIPT"].title == "My Script"
    assert "fine" not in registries.upscalers
    assert registries.upscalers.find("fine") is registries.upscalers["Fine"]


def test_aliases_are_found() -> None:
    found = Registries()
    spec = InterrogatorSpec(name="clip", interrogate=lambda image, context: "", aliases=("CLIP-L",))
    found.commit(Contribution(plugin="a", interrogators=[spec]))
    assert found.interrogators.find("clip-l") is spec


def test_a_name_taken_and_a_name_twice_are_clashes(registries: Registries) -> None:
    second = Contribution(plugin="b", upscalers=[upscaler("Fine"), upscaler("New"), upscaler("New")])
    assert registries.clashes(second) == ["upscaler 'Fine' belongs to a", "upscaler 'New' is offered twice"]


def test_withdrawing_takes_one_owners_things_away(registries: Registries) -> None:
    registries.commit(Contribution(plugin="b", upscalers=[upscaler("Other")]))
    registries.withdraw("a")
    assert list(registries.upscalers) == ["Other"]
    assert not registries.scripts


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Fin", "did you mean 'Fine'?"),
        ("R-ESRGAN 4x+", "pip install latentd-upscalers"),
        ("qqqq", None),
    ],
)
def test_an_unknown_name_comes_with_a_near_one_or_a_package(
    registries: Registries, name: str, hint: str | None
) -> None:
    with pytest.raises(NotFound) as missing:
        registries.upscalers.require(name)
    assert (missing.value.detail, missing.value.hint) == (f"Upscaler {name!r} not found", hint)


@pytest.mark.parametrize(
    ("kind", "name", "package"),
    [
        ("script", "ControlNet", "latentd-controlnet"),
        ("script", "x/y/z plot", "latentd-scripts"),
        ("face restorer", "GFPGAN", "latentd-facerestore"),
        ("interrogator", "deepdanbooru", "latentd-interrogators"),
    ],
)
def test_features_of_our_plugins_name_their_package(kind: str, name: str, package: str) -> None:
    assert package_hint(kind, name) == f"pip install {package}"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/controlnet/model_list", "pip install latentd-controlnet"),
        ("/sdapi/v1/train/embedding", "pip install latentd-training"),
        ("/sdapi/v1/nothing", None),
    ],
)
def test_routes_of_our_plugins_name_their_package(path: str, hint: Any) -> None:
    assert path_hint(path) == hint

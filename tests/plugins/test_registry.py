"""Look-ups in registries, and what is said when a name is unknown."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from latentd.errors import NotFound
from latentd.generations import Script
from latentd.plugins.catalogue import FEATURES, PATHS, install_hint, package_hint, path_hint
from latentd.plugins.contribution import Contribution
from latentd.plugins.extensions import EXTENSIONS
from latentd.plugins.registry import Registries
from latentd.services import InterrogatorSpec, UpscalerSpec


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
        ("R-ESRGAN 4x+", install_hint("upscalers")),
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
    ("kind", "name", "plugin"),
    [
        ("script", "ADetailer", "detailer"),
        ("script", "ControlNet", "controlnet"),
        ("script", "x/y/z plot", "scripts"),
        ("face restorer", "GFPGAN", "facerestore"),
        ("interrogator", "deepdanbooru", "interrogators"),
    ],
)
def test_features_of_our_plugins_name_their_folder(kind: str, name: str, plugin: str) -> None:
    assert package_hint(kind, name) == install_hint(plugin)


def test_hints_install_what_a_clone_has() -> None:
    """No plugin is published: what a hint says is a folder of the repository, and an extra one that it has."""
    assert install_hint("controlnet") == "pip install ./plugins/controlnet in a clone of latentd's repository"
    assert install_hint("controlnet", "annotators").startswith("pip install './plugins/controlnet[annotators]' in")
    root = Path(__file__).parents[2]
    hinted = {*(plugin for names in FEATURES.values() for plugin in names.values()), *(p.plugin for p in PATHS)}
    for name in hinted:
        assert (root / "plugins" / name / "pyproject.toml").is_file(), name
    for source in [*root.glob("core/**/*.py"), *root.glob("plugins/*/src/**/*.py")]:
        text = source.read_text()
        assert not re.search(r"pip install '?latentd", text), f"{source}: nothing of that name is published"
        for plugin, extra in re.findall(r'install_hint\("(\w+)"(?:, "(\w+)")?\)', text):
            project = tomllib.loads((root / "plugins" / plugin / "pyproject.toml").read_text())["project"]
            assert not extra or extra in project["optional-dependencies"], (source, plugin, extra)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/controlnet/model_list", install_hint("controlnet")),
        ("/sdapi/v1/train/embedding", install_hint("training")),
        ("/tagger/v1/interrogate", install_hint("interrogators")),
        ("/rembg", install_hint("rembg")),
        ("/sdapi/v1/rembg", install_hint("rembg")),
        ("/sdapi/v1/nothing", None),
        ("/controlnetwork", None),
        ("/reactor/image", "latentd has no ReActor, roop or FaceSwapLab (swapping faces)"),
        ("/infinite_image_browsing/version", "latentd has no Infinite Image Browsing"),
    ],
)
def test_routes_of_our_plugins_name_their_package(path: str, hint: Any) -> None:
    assert path_hint(path) == hint


@pytest.mark.parametrize(
    ("title", "hint"),
    [
        ("AnimateDiff", "latentd has no AnimateDiff (video)"),
        ("reactor", "latentd has no ReActor, roop or FaceSwapLab (swapping faces)"),
        ("DepthMap v0.4.8", "latentd has no Depth maps"),
        ("X/Y/Z plot v1.2", install_hint("scripts")),
        ("X/Y/Z plotter", None),
        ("v1.2", None),
    ],
)
def test_titles_of_other_extensions_are_told_in_plain_words(title: str, hint: str | None) -> None:
    assert package_hint("script", title) == hint
    assert package_hint("upscaler", title) is None


def test_extensions_are_told_once_and_stand_in_the_guide() -> None:
    titles = [title for extension in EXTENSIONS for title in extension.titles]
    assert len(titles) == len(set(titles)) >= 25
    assert all(title == title.lower().strip() for title in titles)
    assert not set(titles) & FEATURES["script"].keys(), "a plugin has it"
    guide = (Path(__file__).parents[2] / "docs/how-to/from-automatic1111.md").read_text()
    missing = [extension.name for extension in EXTENSIONS if extension.name.partition(" (")[0] not in guide]
    assert not missing


@pytest.mark.parametrize("plugin", sorted(set(FEATURES["script"].values())))
def test_titles_of_plugins_are_those_of_their_scripts(plugin: str) -> None:
    """What a hint says that a plugin brings is found when it is installed."""
    module = pytest.importorskip(f"latentd_{plugin}")
    registries = Registries()
    registries.commit(Contribution(plugin=plugin, scripts=list(module.register_scripts())))
    titles = [title for title, owner in FEATURES["script"].items() if owner == plugin]
    assert [title for title in titles if registries.scripts.find(title) is None] == []

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.sampling.catalogue import SAMPLERS_1_8, SAMPLERS_LATER, SCHEDULERS, SamplerCatalogue, resolve_sampler
from latentd.sampling.spec import load_function

RECORDED = json.loads((Path(__file__).parent / "data" / "samplers_1_8.json").read_text())
CATALOGUE = SamplerCatalogue()


def resolved(name: str, scheduler: str | None = None) -> tuple[str, str | None] | None:
    found = resolve_sampler(name, scheduler, CATALOGUE)
    return found and (found.sampler.name, found.scheduler and found.scheduler.name)


def test_listed_samplers_are_those_of_1_8() -> None:
    listed = [{"name": s.name, "aliases": list(s.aliases), "options": s.api_options()} for s in CATALOGUE]
    assert listed == RECORDED
    assert [list(entry["options"]) for entry in listed] == [list(entry["options"]) for entry in RECORDED]


@pytest.mark.parametrize("spec", [*SAMPLERS_1_8, *SAMPLERS_LATER], ids=lambda spec: spec.name)
def test_every_sampler_has_a_function(spec: object) -> None:
    assert callable(load_function(spec.function))  # type: ignore[attr-defined]


def test_every_scheduler_but_automatic_has_a_function() -> None:
    assert [spec.name for spec in SCHEDULERS if spec.function is None] == ["automatic"]
    for spec in SCHEDULERS:
        if spec.function is not None:
            assert callable(load_function(spec.function))


@pytest.mark.parametrize(
    ("name", "scheduler", "expected"),
    [
        ("Euler a", None, ("Euler a", None)),
        ("DPM++ 2M Karras", None, ("DPM++ 2M Karras", None)),
        ("DPM++ 2M", None, ("DPM++ 2M", None)),  # 1.8: the model's own schedule
        ("DPM++ 2M", "Automatic", ("DPM++ 2M Karras", None)),  # 1.9 and later: Karras
        ("DPM++ 2M", "automatic", ("DPM++ 2M Karras", None)),
        ("DPM++ 2M", "Karras", ("DPM++ 2M", "karras")),
        ("DPM++ 3M SDE", "Automatic", ("DPM++ 3M SDE Exponential", None)),
        ("DPM++ 2M Karras", "Automatic", ("DPM++ 2M Karras", None)),
        ("DPM++ 2M Karras", "Exponential", ("DPM++ 2M Karras", "exponential")),
        ("DPM++ SDE", "exponential", ("DPM++ SDE", "exponential")),
        ("Euler", "SGM Uniform", ("Euler", "sgm_uniform")),
        ("Euler", "SGMUniform", ("Euler", "sgm_uniform")),
        ("Euler", "Automatic", ("Euler", None)),
        ("Euler Karras", None, ("Euler", "karras")),
        ("Euler Align Your Steps", None, ("Euler", "align_your_steps")),
        ("Restart", "Karras", ("Restart", "karras")),
        ("DPM++ 2M Karras", "karras", ("DPM++ 2M Karras", "karras")),
        ("DPM++ 2M SGM Uniform", None, ("DPM++ 2M", "sgm_uniform")),
        ("Euler", "Turbo", ("Euler", "turbo")),
        ("Euler", "Align Your Steps GITS", ("Euler", "align_your_steps_GITS")),
        ("Euler Align Your Steps 32", None, ("Euler", "align_your_steps_32")),
        ("DDIM CFG++", None, ("DDIM CFG++", None)),
        ("dpm++ 2m karras", None, None),
        ("k_euler", None, None),
        ("Eular", None, None),
        ("Euler", "Wrong", ("Euler", None)),  # 1.9 and later: Automatic
        ("DPM++ 2M", "Wrong", ("DPM++ 2M Karras", None)),
        ("", None, None),
    ],
)
def test_what_a_request_means(name: str, scheduler: str | None, expected: tuple[str, str | None] | None) -> None:
    assert resolved(name, scheduler) == expected


def test_defaults_of_eta() -> None:
    etas = {spec.name: spec.default_eta for spec in SAMPLERS_1_8 if spec.uses_eta}
    assert etas.pop("DDIM") == 0.0
    assert set(etas.values()) == {1.0}
    assert {"Euler a", "DPM fast", "DPM++ 2M SDE"} <= etas.keys()


def test_a_reference_to_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="module:function"):
        load_function("no_colon")
    with pytest.raises(AttributeError):
        load_function("latentd.sampling.steps:nothing")


def test_catalogue_imports_no_torch() -> None:
    code = "import sys, latentd.sampling.catalogue, latentd.sampling.steps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

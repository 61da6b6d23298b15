"""What is told at the start."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from latentd import __version__
from latentd.hookspecs import hookimpl
from latentd.server.serve import banner
from latentd.server.services import create_services
from latentd.settings import parse_settings
from latentd.settings.checks import idle_flags, missing_places


class Broken:
    """A plugin that cannot be taken in: it has a hook that does not exist."""

    @hookimpl
    def register_nonsense(self) -> None:
        """Never called."""


def test_the_banner_names_versions_folder_models_and_plugins(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    (folder / "mine.safetensors").touch()
    settings = parse_settings(["--data-dir", str(tmp_path), "--disable-plugin", "a", "--core-only"], environment={})
    services = create_services(settings, extra_plugins=[("mine", object()), ("broken", Broken())], serve_http=False)
    lines = banner(services)
    assert lines[0].startswith(f"latentd {__version__}, torch {metadata.version('torch')}, ")
    assert lines[1] == f"data folder {tmp_path}"
    assert lines[2].startswith("checkpoints: 1 (selected is mine.safetensors")
    assert lines[2].endswith("); VAEs: none")
    assert lines[3].startswith("plugins: mine; failed: broken")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--split-batches"], "--split-batches has no effect with one device"),
        (["--ray-gpus", "0"], "--ray-gpus has no effect without --ray-address"),
        (["--share-batches", "8", "--worker-processes"], "--share-batches has no effect with --worker-processes: each"),
        (["--share-batches", "8", "--ray-address", "auto"], "--share-batches has no effect with --ray-address: each"),
        (
            ["--share-batches", "8", "--lowvram"],
            "--share-batches has no effect with --lowvram on an accel",
        ),
    ],
)
def test_flags_that_do_nothing_beside_the_others_are_told(flags: list[str], told: str) -> None:
    (found,) = idle_flags(parse_settings(flags, environment={}))
    assert found.startswith(told)


@pytest.mark.parametrize(
    "flags",
    [
        ["--share-batches", "8"],
        ["--share-batches", "0", "--worker-processes"],
        ["--split-batches", "--devices", "cpu:0,cpu:1"],
        ["--split-batches", "--ray-address", "auto", "--ray-min-actors", "2"],
    ],
)
def test_flags_that_act_are_not_told(flags: list[str]) -> None:
    assert idle_flags(parse_settings(flags, environment={})) == []


def test_folders_that_flags_name_in_vain_are_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    flags = ["--ckpt-dir", "there", "--lora-dir", "nowhere", "--vae-path", "no.pt", "--data-dir", str(tmp_path)]
    assert missing_places(parse_settings(flags, environment={})) == ["--lora-dir nowhere", "--vae-path no.pt"]

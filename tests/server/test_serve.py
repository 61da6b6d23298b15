"""What is told at the start."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from latentd import __version__
from latentd.hookspecs import hookimpl
from latentd.server.serve import banner
from latentd.server.services import create_services
from latentd.settings import parse_settings
from latentd.settings.checks import missing_places


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


def test_folders_that_flags_name_in_vain_are_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    flags = ["--ckpt-dir", "there", "--lora-dir", "nowhere", "--vae-path", "no.pt", "--data-dir", str(tmp_path)]
    assert missing_places(parse_settings(flags, environment={})) == ["--lora-dir nowhere", "--vae-path no.pt"]

"""The plugins' own suites need installed packages only: they run in a folder far from this tree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "pyproject.toml").exists())
#: Quick ones of every suite; the scripts' draws with a model, whose weights the suite makes.
QUICK = {
    "controlnet": "test_spellings",
    "detailer": "test_an_infotext_tells_its_units",
    "facerestore": "test_alignment",
    "guidance": "test_a_tile_counts_most_in_its_middle",
    "interrogators": "test_pixels",
    "openai": "test_the_models_are_the_checkpoints",
    "operations": "test_a_signature_is_checked_as_documented",
    "ray": "test_every_difference_of_versions_is_named",
    "rembg": "test_erosion_is_scipys",
    "scripts": "test_a_matrix_has_every_combination",
    "tinymodel": "test_a_hundred_motifs",
    "training": "test_a_new_embedding_begins_with_the_vectors",
    "upscalers": "test_the_list_is_the_originals",
    "web": "test_the_page_takes_the_place_of_the_servers_own",
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the plugins' tests, and nothing else of this tree."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in PLUGINS:
        # A folder "openai" beside which pytest is started would stand before the package of that name.
        place = folder / f"{name}-suite"
        shutil.copytree(ROOT / "plugins" / name / "tests", place, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_they_are_all_imported_and_some_of_each_run(elsewhere: Path) -> None:
    """Under no settings of this tree: what their files import is theirs or installed."""
    assert set(PLUGINS) == set(QUICK)
    (elsewhere / "none.ini").write_text("[pytest]\nmarkers = slow\naddopts = --import-mode=importlib\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-p",
        "no:cacheprovider",
        "-c",
        "none.ini",
        *(f"{n}-suite" for n in PLUGINS),
    ]
    command += ["-k", " or ".join(QUICK.values())]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, test in QUICK.items():
        assert re.search(rf"^{name}-suite/\S*{test}.* PASSED", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("name", PLUGINS)
def test_no_suite_reaches_out_of_its_folder(name: str) -> None:
    for file in (ROOT / "plugins" / name / "tests").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) tests\b|\.parents\[[2-9]\]", file.read_text(), re.MULTILINE), file

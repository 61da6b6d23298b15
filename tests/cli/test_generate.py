"""``latentd generate``: what becomes of its arguments, files and bar."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentd.cli.bar import ProgressBar
from latentd.cli.generate import make_parser, make_request, run, write_pictures
from latentd.errors import InvalidImage
from latentd.types import GeneratedImage, Result


def request(*arguments: str) -> Any:
    return make_request(make_parser().parse_args(["a cat", *arguments]), max_pixels=1 << 20)


def test_arguments_become_a_request() -> None:
    asked = request("--steps", "5", "--seed", "7", "--count", "3", "-n", "a dog", "--model", "tiny")
    assert (asked.mode, asked.prompt, asked.negative_prompt) == ("txt2img", "a cat", "a dog")
    assert (asked.steps, asked.seed, asked.n_iter) == (5, 7, 3)
    assert asked.override_settings == {"sd_model_checkpoint": "tiny"}


def test_a_picture_makes_it_img2img(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "in.png")
    asked = request("--image", str(tmp_path / "in.png"), "--strength", "0.4")
    assert (asked.mode, asked.denoising_strength, asked.init_images[0].size) == ("img2img", 0.4, (8, 8))


def test_a_picture_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_text("no picture")
    with pytest.raises(InvalidImage):
        request("--image", str(tmp_path / "in.png"))


def test_an_unknown_model_is_refused(reference_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "cat.png"
    status = run(["a cat", "-q", "--model", "tiny-bb", "-o", str(picture), "--data-dir", str(reference_data)])
    said = capsys.readouterr().err
    assert (status, picture.exists()) == (1, False)
    assert "model 'tiny-bb' not found (did you mean" in said
    assert "'tiny-b'" in said


def test_pictures_are_numbered_and_keep_their_infotext(tmp_path: Path) -> None:
    pictures = tuple(GeneratedImage(image=Image.new("RGB", (8, 8)), infotext=f"Seed: {n}, 夜") for n in (1, 2))
    written = write_pictures(Result(images=pictures, info={}), tmp_path / "new" / "cat.png")
    assert [path.name for path in written] == ["cat.png", "cat-2.png"]
    assert Image.open(written[1]).text["parameters"] == "Seed: 2, 夜"  # type: ignore[attr-defined]


def test_the_suffix_gives_the_format(tmp_path: Path) -> None:
    picture = GeneratedImage(image=Image.new("RGBA", (8, 8)))
    path = write_pictures(Result(images=(picture,), info={}), tmp_path / "cat.jpg")[0]
    assert Image.open(path).format == "JPEG"


def test_the_bar_tells_picture_step_and_share() -> None:
    terminal = Terminal()
    with ProgressBar(terminal) as bar:
        bar.show(0, 0, 0, 0)
        assert terminal.line().startswith("loading the model")
        bar.show(1, 2, 5, 10)
        line = terminal.line()
    assert line.startswith("Total progress:  75%|")
    assert "15/20" in line
    assert "picture 2 of 2" in line
    assert terminal.line() == "", "nothing is left on the line"


class Terminal(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        """What stands on the line now."""
        return self.getvalue().rstrip("\r").rpartition("\r")[2].strip()


@pytest.mark.parametrize(("stream", "silent"), [(io.StringIO(), False), (Terminal(), True)], ids=["file", "quiet"])
def test_the_bar_stays_out_of_files_and_of_the_way(stream: io.StringIO, silent: bool) -> None:
    with ProgressBar(stream, silent=silent) as bar:
        bar.show(0, 1, 1, 2)
    assert stream.getvalue() == ""


def test_without_a_checkpoint_it_says_so(latentd: Any, tmp_path: Path) -> None:
    done = latentd("generate", "a cat", "--core-only", "-o", "cat.png")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cat.png").exists()


def test_models_lists_what_is_there(latentd: Any, tmp_path: Path) -> None:
    empty = latentd("models", "--core-only")
    assert empty.returncode == 1
    assert "checkpoints: none" in empty.stdout
    assert "put a checkpoint into" in empty.stdout

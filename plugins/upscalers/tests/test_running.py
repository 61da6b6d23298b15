"""Networks run, tile by tile, with seams that nobody sees."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from latentd_upscalers.discovery import find_upscalers
from latentd_upscalers.families import FAMILIES
from latentd_upscalers.network import load_network, to_image, to_tensor
from latentd_upscalers.running import run_upscaler
from PIL import Image
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.LaMa import LaMa
from spandrel.architectures.SCUNet import SCUNet

from latentd.api import ModelLoadError, WorkerContext
from latentd.testing import check_upscaler

FAMILY = {family.folder: family for family in FAMILIES}


def context(check=lambda: None, **options):
    return WorkerContext(options=options, check=check)


def decibels(first: Image.Image, second: Image.Image) -> float:
    assert first.size == second.size
    error = np.mean((np.asarray(first, dtype=float) - np.asarray(second, dtype=float)) ** 2)
    return float(99 if error == 0 else 10 * np.log10(255**2 / error))


@pytest.fixture
def photograph(recorded):
    """96x64, RGB."""
    return Image.open(recorded / "small96x64.png").convert("RGB")


@pytest.fixture
def compact(tmp_path):
    """A Compact network (Real-ESRGAN's small kind) that doubles, with a receptive field of seven pixels."""
    torch.manual_seed(1)
    path = tmp_path / "compact.pth"
    torch.save({"params": Compact(num_feat=8, num_conv=1, upscale=2).state_dict()}, path)
    return path


def test_pictures_pass_through_tensors_unchanged(photograph):
    tensor = to_tensor(photograph)
    assert tensor.shape == (1, 3, 64, 96)
    red, _, blue = photograph.getpixel((0, 0))
    assert (tensor[0, :, 0, 0] * 255).round()[[0, 2]].tolist() == [blue, red]
    assert to_image(tensor).tobytes() == photograph.tobytes()


def test_values_beyond_the_range_are_clamped_and_rounded():
    assert to_image(torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)).getpixel((0, 0)) == (255, 128, 0)


# Averaging, AUTOMATIC1111's way for SwinIR and ScuNET, lets the edge of each tile through at half strength.
@pytest.mark.parametrize(("folder", "least"), [("ESRGAN", 50), ("SwinIR", 40)])
def test_seams_are_invisible(compact, photograph, folder, least):
    tile, overlap = FAMILY[folder].options
    whole = run_upscaler(compact, FAMILY[folder], photograph, context(**{tile: 0, overlap: 0}))
    tiled = run_upscaler(compact, FAMILY[folder], photograph, context(**{tile: 40, overlap: 16}))
    assert whole.size == (192, 128)
    assert decibels(whole, tiled) >= least


def test_seams_of_the_recorded_network_are_invisible(photograph, recorded):
    path, family = recorded / "TinyRRDB_x4.pth", FAMILY["ESRGAN"]
    whole = run_upscaler(path, family, photograph, context(ESRGAN_tile=0, ESRGAN_tile_overlap=0))
    tiled = run_upscaler(path, family, photograph, context(ESRGAN_tile=48, ESRGAN_tile_overlap=24))
    assert decibels(whole, tiled) >= 50


@pytest.mark.parametrize("size", [(5, 3), (200, 9), (40, 41), (1, 1)])
@pytest.mark.parametrize("folder", ["HAT", "ScuNET"])
def test_any_size_and_options_that_do_not_fit_each_other(compact, folder, size):
    tile, overlap = FAMILY[folder].options
    image = Image.new("RGB", size, (10, 120, 240))
    enlarged = run_upscaler(compact, FAMILY[folder], image, context(**{tile: 16, overlap: 48}))
    assert enlarged.size == (2 * size[0], 2 * size[1])


def test_scunet_keeps_the_size(tmp_path, photograph):
    torch.manual_seed(0)
    path = tmp_path / "scunet.pth"
    torch.save(SCUNet(config=[1] * 7, dim=64).state_dict(), path)
    options = context(SCUNET_tile=64, SCUNET_tile_overlap=8)
    assert run_upscaler(path, FAMILY["ScuNET"], photograph, options).size == photograph.size


def test_a_grey_network_enlarges_each_colour(tmp_path, photograph):
    torch.manual_seed(0)
    path = tmp_path / "grey.pth"
    torch.save(Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1, upscale=2).state_dict(), path)
    network = load_network(path, "cpu")
    picture = to_tensor(photograph)
    enlarged = network.enlarge(picture)
    assert enlarged.shape == (1, 3, 128, 192)
    assert torch.equal(enlarged[:, :1], network.enlarge(picture[:, :1].expand(-1, 3, -1, -1))[:, :1])


@pytest.mark.parametrize("folder", ["ESRGAN", "SwinIR"])
def test_it_can_be_left_between_tiles(compact, photograph, folder):
    tile, overlap = FAMILY[folder].options
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_upscaler(compact, FAMILY[folder], photograph, context(check, **{tile: 32, overlap: 8}))
    assert len(calls) == 3


def test_the_contract_of_upscalers(services, tiny):
    spec = next(spec for spec in find_upscalers(services) if spec.name == tiny.stem)
    check_upscaler(spec)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GFPGAN(narrow=0.125, channel_multiplier=1, num_style_feat=16), "cannot be loaded as an upscaler"),
        (lambda: LaMa(), "is a LaMa model, which is no upscaler"),
        (lambda: torch.nn.Linear(2, 2), "is of no architecture that spandrel"),
    ],
)
def test_what_is_no_upscaler_is_refused(tmp_path, make, words):
    path = tmp_path / "net.pth"
    torch.save(make().state_dict(), path)
    with pytest.raises(ModelLoadError, match=words):
        load_network(path, "cpu")


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x02c__builtin__\neval\n(Vprint(1)\ntR."])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"net\.pth"):
        load_network(path, "cpu")


#: Runs its parts in processes that have imported what is needed: each begins with as much memory as the others.
IN_PROCESSES = """
import os, resource, sys
import torch
from pathlib import Path
from PIL import Image
from latentd.api import TooLarge, WorkerContext
from latentd_upscalers.families import FAMILIES
from latentd_upscalers.running import run_upscaler

path = Path(sys.argv[1])

def enlarge(family, width, height, tile):
    context = WorkerContext(options=dict(zip(family.options, (tile, 8))))
    return run_upscaler(path, family, Image.new("RGB", (width, height), "teal"), context)

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def megapixel(family):
    enlarge(family, 192, 192, 192)
    before = most()
    assert enlarge(family, 1024, 1024, 192).size == (4096, 4096)
    return most() - before

def too_large(family):
    enlarge(family, 64, 64, 192)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (512 << 20), in_use + (512 << 20)))
    told = "nothing"
    try:
        enlarge(family, 4096, 2048, 0 if family.folder == "ESRGAN" else 192)
    except TooLarge as error:
        told = f"{error} | {error.hint}"
    assert enlarge(family, 128, 64, 192).size == (512, 256)
    return told

for part in (megapixel, too_large):
    for family in FAMILIES:
        if family.folder in ("ESRGAN", "SwinIR"):
            child = os.fork()
            if child == 0:
                print(part.__name__, family.folder, part(family), sep=":", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    """By part and folder: MiB for a megapixel four times as large; what is said of what is too large."""
    path = tmp_path_factory.mktemp("four") / "net.pth"
    torch.manual_seed(0)
    torch.save(Compact(num_feat=16, num_conv=1, upscale=4).state_dict(), path)
    done = subprocess.run([sys.executable, "-c", IN_PROCESSES, path], capture_output=True, text=True, check=True)
    found = (line.split(":", 2) for line in done.stdout.splitlines())
    return {(part, folder): told for part, folder, told in found}, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and bounds memory by RLIMIT_AS")
@pytest.mark.parametrize("folder", ["ESRGAN", "SwinIR"])
def test_memory_is_bounded_for_a_megapixel_four_times(in_processes, folder):
    """1024x1024 to 4096x4096; in one piece, the last layer alone would hold 48 channels of 1024x1024 in float32."""
    found, errors = in_processes
    assert ("megapixel", folder) in found, errors
    # The result is 48 MiB; averaging in float32 holds 192 MiB and one copy of it.
    assert 40 < float(found["megapixel", folder]) < (260 if folder == "ESRGAN" else 700)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and bounds memory by RLIMIT_AS")
@pytest.mark.parametrize(
    ("folder", "told"),
    [("ESRGAN", "4096x2048 in one piece | set the option for its tiles"), ("SwinIR", "16384x8192 | use a smaller")],
)
def test_what_memory_cannot_hold_is_refused_and_the_next_picture_enlarged(in_processes, folder, told):
    found, errors = in_processes
    assert ("too_large", folder) in found, errors
    for words in told.split(" | "):
        assert words in found["too_large", folder]
    assert "GiB are free" in found["too_large", folder]


def test_the_estimate_is_of_what_the_last_layers_hold(tmp_path):
    """RRDB as ESRGAN has it: 64 maps at the size of the result, and the picture."""
    path = tmp_path / "net.pth"
    torch.save(ESRGAN(num_blocks=1, scale=4).state_dict(), path)
    assert load_network(path, "cpu").working_bytes(192, 192) == (64 + 3) * 768 * 768 * 4
    torch.save(Compact(num_feat=8, num_conv=1, upscale=2).state_dict(), path)
    assert load_network(path, "cpu").working_bytes(100, 50) == (3 + 3) * 200 * 100 * 4

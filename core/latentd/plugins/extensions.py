"""Extensions of AUTOMATIC1111 and Forge that clients ask for and that have no counterpart under their name."""

from __future__ import annotations

from typing import NamedTuple


class Extension(NamedTuple):
    """An extension that latentd does not have.

    :ivar name: its name, with what it does where the name does not tell.
    :ivar titles: its scripts' titles as clients send them, in lower case and without a version.
    :ivar paths: prefixes of the paths of its routes.
    :ivar instead: what latentd has for the same purpose, as a clause; empty where there is nothing.
    """

    name: str
    titles: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    instead: str = ""


_TAGS = "write <lora:name:weight> into the prompt"
_REGIONS = "the script 'Forge Couple' of plugins/guidance gives each part of the picture its own prompt"
_WILDCARDS = "the script 'dynamic prompts' of plugins/scripts replaces __name__ by lines of wildcards/name.txt"

EXTENSIONS = (
    Extension("ReActor, roop or FaceSwapLab (swapping faces)", ("reactor", "roop", "faceswaplab"),
              ("/reactor/", "/roop/", "/faceswaplab/")),
    Extension("AnimateDiff (video)", ("animatediff",), ("/animatediff/",)),
    Extension("Deforum (video)", ("deforum",), ("/deforum_api/", "/deforum/")),
    Extension("Segment Anything", ("segment anything",), ("/sam/",), "masks are sent ready-made, as 'mask'"),
    Extension("Inpaint Anything", ("inpaint anything",), (), "masks are sent ready-made, as 'mask'"),
    Extension("Regional Prompter", ("regional prompter",), (), _REGIONS),
    Extension("Latent Couple", ("latent couple", "latent couple extension"), (), _REGIONS),
    Extension("Composable LoRA", ("composable lora",)),
    Extension("LoRA Block Weight", ("lora block weight",), (), "a LoRA has one weight for the UNet and one for the text"
              " encoder: <lora:name:te=0.5:unet=1>"),
    Extension("Additional Networks", ("additional networks for generating",), (), _TAGS),
    Extension("Tiled Diffusion", ("tiled diffusion",), (), "the script 'MultiDiffusion Integrated' of plugins/guidance"
              " denoises in tiles"),
    Extension("Tiled VAE", ("tiled vae",), (), "option hypertile_enable_vae divides the VAE's attention"),
    Extension("NegPiP (negative weights in prompts)", ("negpip",)),
    Extension("CD Tuner", ("cd tuner",)),
    Extension("Cutoff", ("cutoff",)),
    Extension("LayerDiffuse (transparent pictures)", ("layerdiffuse", "layerdiffusion"), (),
              "POST /rembg of plugins/rembg removes backgrounds"),
    Extension("Latent Modifier", ("latentmodifier integrated", "latentmodifier integrated (sd 1.x, sd 2.x, sdxl)")),
    Extension("StyleAlign", ("stylealign integrated", "stylealign integrated (sd 1.x, sd 2.x, sdxl)")),
    Extension("Never OOM", ("never oom integrated",), (), "--medvram and --lowvram save memory"),
    Extension("Agent Scheduler's script", ("agent scheduler",), (), "its routes are those of plugins/operations"),
    Extension("Infinite Image Browsing", (), ("/infinite_image_browsing",)),
    Extension("Unprompted", ("unprompted",), (), _WILDCARDS),
    Extension("Simple wildcards", ("simple wildcards", "wildcards"), (), _WILDCARDS),
    Extension("One Button Prompt", ("one button prompt",)),
    Extension("Vectorscope CC", ("vectorscope cc",)),
    Extension("BMAB", ("bmab",)),
    Extension("Face Editor", ("face editor",)),
    Extension("Depth maps", ("depthmap", "depth maps"), ("/depth/",)),
    Extension("Prompt travel and Seed travel (video)", ("prompt travel", "seed travel")),
    Extension("FABRIC", ("fabric",)),
    Extension("X/Y plot of early 2023", ("x/y plot",), (), "'X/Y/Z plot' of plugins/scripts has a third axis"),
    Extension("InstructPix2Pix", (), ("/instruct-pix2pix/",), "send POST /sdapi/v1/img2img with an instruct-pix2pix"
              " checkpoint and 'image_cfg_scale'"),
    Extension("Model Keyword", (), ("/model_keyword/",)),
)  # fmt: skip


def explain(extension: Extension) -> str:
    """What to tell who asks for ``extension``, as a sentence."""
    return f"latentd has no {extension.name}" + (f"; {extension.instead}" if extension.instead else "")

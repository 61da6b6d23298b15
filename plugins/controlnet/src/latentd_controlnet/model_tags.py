"""Which modules and models belong together: the body of ``/controlnet/control_types``."""

from __future__ import annotations

from collections.abc import Sequence

from latentd.api import JsonValue, PreprocessorSpec

NONE_MODEL, NONE_MODULE, ALL = "None", "none", "All"
#: Texts in a model's name that put it under a tag, besides the tag itself.
FILTERS = {
    "segmentation": ("seg",),
    "normalmap": ("normal",),
    "openpose": ("densepose",),
    "tile": ("blur",),
    "scribble": ("sketch",),
    "instructp2p": ("ip2p",),
    "t2i-adapter": ("t2i_adapter", "t2iadapter", "t2ia"),
    "ip-adapter": ("ip_adapter", "ipadapter"),
    "instant-id": ("instant_id", "instantid"),
}
#: Tags whose maps a union model accepts.
UNION = frozenset(
    ("canny", "depth", "lineart", "mlsd", "normalmap", "openpose", "scribble", "segmentation", "softedge", "tile")
) | {"inpaint"}


def control_types(modules: Sequence[PreprocessorSpec], models: Sequence[str]) -> dict[str, JsonValue]:
    """Tag → the labels of its modules, its models, and the default ones."""
    tags = sorted({tag for spec in modules for tag in spec.tags})
    found = {ALL: _entry([_label(spec) for spec in modules], [NONE_MODEL, *models], all_of_them=True)}
    for tag in tags:
        labels = [_label(spec) for spec in modules if tag in spec.tags and spec.name != NONE_MODULE]
        found[tag] = _entry([NONE_MODULE, *labels], [NONE_MODEL, *(m for m in models if _fits(m, tag))])
    return found


def _label(spec: PreprocessorSpec) -> str:
    return spec.label or spec.name


def _fits(model: str, tag: str) -> bool:
    name, tag = model.lower(), tag.lower()
    texts = (tag, *FILTERS.get(tag, ()), *(("union",) if tag in UNION else ()))
    return any(text in name for text in texts)


def _entry(labels: list[str], models: list[str], *, all_of_them: bool = False) -> dict[str, JsonValue]:
    preferred = [model for model in models if "11" in model.partition(" [")[0]] or models[1:]
    return {
        "module_list": labels,
        "model_list": models,
        "default_option": labels[1] if len(labels) > 1 and not all_of_them else NONE_MODULE,
        "default_model": preferred[0] if preferred and not all_of_them else NONE_MODEL,
    }

"""Who is at fault: an exception or a wrong value out of a plugin's code becomes an error that names the plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeGuard, TypeVar

from latentd.errors import LatentdError, PluginError
from latentd.generations import Planned, UNetHook
from latentd.types import Result

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from latentd.services import Offered
    from latentd.types import JsonValue

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

BUILTIN_PREFIX = "latentd."
"""Names of the core's own plugins begin so; nobody is blamed for what they do."""


def owner_of(registry: Offered[object], name: str) -> str:
    """The plugin that offers ``name``; ``name`` itself where the plugin has been withdrawn meanwhile."""
    return registry.owner(name) if name in registry else name


@contextmanager
def blamed(plugin: str, where: str) -> Iterator[None]:
    """Let exceptions of ``plugin``'s code come out as errors that name it.

    Errors raised on purpose, and memory that ran out, pass as they are; so does everything of the core's own plugins.

    :param plugin: the owner; empty where the core itself is at work. :param where: the hook, or what was called.
    :raises PluginError: in place of the exception.
    """
    try:
        yield
    except LatentdError:
        raise
    except Exception as error:
        if not plugin or plugin.startswith(BUILTIN_PREFIX) or type(error).__name__ == "OutOfMemoryError":
            raise
        raise PluginError(plugin, where, error) from error


def blaming(plugin: str, where: str, function: Callable[P, T]) -> Callable[P, T]:
    """``function``, called under :func:`blamed`."""

    @wraps(function, assigned=())
    def called(*arguments: P.args, **named: P.kwargs) -> T:
        with blamed(plugin, where):
            return function(*arguments, **named)

    return called


# --- values ----------------------------------------------------------------------------------------------------------


def picture(value: object) -> Image:
    """``value``, if it is a picture.

    :raises TypeError: it is none.
    """
    from PIL.Image import Image

    return _of(value, Image, "a picture (PIL.Image.Image)")


def text(value: object) -> str:
    """``value``, if it is a text.

    :raises TypeError: it is none.
    """
    return _of(value, str, "a text")


def mapping(value: object) -> Mapping[str, JsonValue]:
    """``value``, if it is a mapping.

    :raises TypeError: it is none.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"returned {_shown(value)}, not a mapping")
    return value


def picture_and_entries(value: object) -> tuple[Image, Mapping[str, JsonValue]]:
    """``value``, if it is a picture and a mapping.

    :raises TypeError: it is not.
    """
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"returned {_shown(value)}, not a picture and its infotext entries")
    return picture(value[0]), mapping(value[1])


def overlay(value: object) -> tuple[Image | None, Image | None]:
    """``value``, if it is a pair of pictures, each of which may be None.

    :raises TypeError: it is not.
    """
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"returned {_shown(value)}, not an overlay and its mask")
    first, second = (part if part is None else picture(part) for part in value)
    return first, second


def hooks(value: object) -> list[UNetHook]:
    """``value`` as a list, if it is a sequence of UNet hooks; empty for None.

    :raises TypeError: it is none, or one of them is of another class.
    """
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise TypeError(f"returned {_shown(value)}, not a sequence of UNetHook")
    return [_of(hook, UNetHook, "UNetHook objects", "returned a sequence with") for hook in value]


def result(value: object) -> Result:
    """``value``, if it is a generation's result.

    :raises TypeError: it is none.
    """
    if not isinstance(value, Result):
        raise TypeError(f"returned a value of type {type(value).__name__}, not a Result")
    return value


def outcome(value: Planned[A] | None) -> Planned[A] | None:
    """``value``, if it is what a script's ``plan`` returns.

    :raises TypeError: it is not.
    """
    if value is not None:
        _of(value, Planned, "Planned or None")
    return value


def like(before: Tensor) -> Callable[[object], Tensor]:
    """A check that a value has the shape of the tensor ``before``.

    :raises TypeError: (the check) it is no tensor, or of another shape.
    """

    def check(value: object) -> Tensor:
        wanted, found = getattr(before, "shape", None), getattr(value, "shape", None)
        if not _has_shape(value, wanted):
            shown = f"a tensor {list(found)}" if found is not None else _shown(value)
            raise TypeError(f"returned {shown}, not a tensor {list(wanted or ())}")
        return value

    return check


def _has_shape(value: object, shape: Sequence[int] | None) -> TypeGuard[Tensor]:
    # torch is not imported for this: what has the tensor's shape is taken for one.
    return bool(getattr(value, "shape", None) == shape)


def entering(hidden: Tensor, skip: Tensor | None) -> Callable[[object], tuple[Tensor, Tensor | None]]:
    """A check that a value is a pair of feature maps with the rows and channels of ``hidden`` and of ``skip``.

    :raises TypeError: (the check) it is not.
    """

    def check(value: object) -> tuple[Tensor, Tensor | None]:
        if not isinstance(value, Sequence) or len(value) != 2:
            raise TypeError(f"returned {_shown(value)}, not the hidden states and the skip connection")
        for before, found in zip((hidden, skip), value, strict=True):
            wanted, shape = getattr(before, "shape", (None,))[:2], getattr(found, "shape", (None,))[:2]
            if shape != wanted:
                raise TypeError(f"returned a feature map [B,C] = {list(shape)} in place of one of {list(wanted)}")
        return value[0], value[1]

    return check


def _of(value: object, kind: type[T], words: str, verb: str = "returned") -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{verb} {_shown(value)}, not {words}")
    return value


def _shown(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"

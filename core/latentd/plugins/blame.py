"""Errors that name the plugin whose code raised an exception or returned a wrong value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeGuard, TypeVar

from latentd.errors import LatentdError, PluginError
from latentd.executors import Executor
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
"""Prefix of the names of the core's own plugins, whose exceptions pass unchanged."""


def owner_of(registry: Offered[object], name: str) -> str:
    """The plugin that offers ``name``; ``name`` itself if the plugin has been withdrawn in the meantime."""
    return registry.owner(name) if name in registry else name


@contextmanager
def blamed(plugin: str, where: str) -> Iterator[None]:
    """A context in which exceptions of ``plugin``'s code become errors that name it.

    Errors of latentd and lack of memory pass unchanged, and so does everything from the core's own plugins.

    :param plugin: the owner of the code; empty for the core itself.
    :param where: the hook or function that is called.
    :raises PluginError: instead of any other exception.
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
    """``value``, checked to be a picture.

    :raises TypeError: it is not.
    """
    from PIL.Image import Image

    return _of(value, Image, "a picture (PIL.Image.Image)")


def text(value: object) -> str:
    """``value``, checked to be a text.

    :raises TypeError: it is not.
    """
    return _of(value, str, "a text")


def status_and_body(value: object) -> tuple[int, JsonValue]:
    """``value``, checked to be a pair of a status and a body.

    :raises TypeError: it is not.
    """
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], int):
        raise TypeError(f"returned {_shown(value)}, not a status and a body")
    return value


def mapping(value: object) -> Mapping[str, JsonValue]:
    """``value``, checked to be a mapping.

    :raises TypeError: it is not.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"returned {_shown(value)}, not a mapping")
    return value


def picture_and_entries(value: object) -> tuple[Image, Mapping[str, JsonValue]]:
    """``value``, checked to be a pair of a picture and a mapping.

    :raises TypeError: it is not.
    """
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"returned {_shown(value)}, not a picture and its infotext entries")
    return picture(value[0]), mapping(value[1])


def overlay(value: object) -> tuple[Image | None, Image | None]:
    """``value``, checked to be a pair of pictures, each of which may be None.

    :raises TypeError: it is not.
    """
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"returned {_shown(value)}, not an overlay and its mask")
    first, second = (part if part is None else picture(part) for part in value)
    return first, second


def hooks(value: object) -> list[UNetHook]:
    """``value`` as a list, checked to be a sequence of UNet hooks; empty for None.

    :raises TypeError: it is not, or an item is of another class.
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


def executor(value: object) -> Executor | None:
    """``value`` as an executor.

    :raises TypeError: it lacks some of the methods.
    """
    if value is None or isinstance(value, Executor):
        return value
    lacking = [name for name in sorted(vars(Executor)) if name[0] != "_" and not hasattr(value, name)]
    raise TypeError(f"returned {_shown(value)}, which is no executor: it lacks {', '.join(lacking)}")


def outcome(value: Planned[A] | None) -> Planned[A] | None:
    """``value``, checked to be a result of a script's ``plan``.

    :raises TypeError: it is not.
    """
    if value is not None:
        _of(value, Planned, "Planned or None")
    return value


def like(before: Tensor) -> Callable[[object], Tensor]:
    """A check that a value has the shape of the tensor ``before``.

    That function raises TypeError if the argument is not a tensor, or of another shape.
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
    """A function that returns its argument if that is a pair of feature maps like ``hidden`` and ``skip``.

    It raises TypeError if the argument is anything else, or if rows or channels differ.
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

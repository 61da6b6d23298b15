"""The selectable script ``controlnet m2m``: listed as in the original, but the API cannot carry videos."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from latentd.api import ArgInfo, GenerationRequest, Mode, NotConfigured, Plan, RawArgs, Script, Services

UNITS = 3


class MovieArgs(BaseModel):
    """No arguments: the script never runs."""

    model_config = ConfigDict(extra="allow")


class MovieScript(Script[MovieArgs]):
    """Control of one picture after another by the frames of a video."""

    title = "controlnet m2m"
    Args = MovieArgs

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """Three values for each unit and the duration, as in the original."""
        unit = [ArgInfo(label=""), ArgInfo(label=""), ArgInfo(label="Save preprocessed", value=False)]
        return [*unit * UNITS, ArgInfo(label="Duration", value=50.0, minimum=10.0, maximum=200.0, step=10)]

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> MovieArgs:
        """Whatever was sent, unread."""
        return MovieArgs()

    def plan(self, plan: Plan, args: MovieArgs, services: Services) -> None:
        """Refuse the script.

        :raises NotConfigured: always; a video cannot be sent.
        """
        raise NotConfigured(
            "Script 'controlnet m2m' works on video files, which the API does not carry",
            hint="send the frames one by one as units of alwayson_scripts.controlnet",
        )

"""Runs the lines of a Dockerfile as a script in a fresh environment, where there is no Docker.

``python tools/dockerfile_lines.py deploy/Dockerfile --target core --root DIR`` carries every line out below ``DIR``:
the image's paths (``/opt``, ``/data``, ``/src``) lie there, RUN is ``sh -e``, COPY copies from the working directory,
ARG and ENV set what later lines see. Then the entry point is started with its arguments, the health check is asked
until it is well, and SIGTERM must end the server with status 0. What needs root or a kernel's namespaces (USER,
useradd, chown) is said and left out; FROM is this Python.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_PATHS = re.compile(r"(?<![\w./])/(opt|data|src)\b")
NEEDS_ROOT = re.compile(r"\b(useradd|chown)\b[^&;]*")
PORT = "7860"


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction: its name in capitals, and what follows."""

    name: str
    rest: str


def read_lines(path: Path) -> list[Line]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    text = "\n".join(
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    found = []
    for line in filter(None, (part.strip() for part in re.sub(r"\\\n\s*", " ", text).splitlines())):
        name, _, rest = line.partition(" ")
        found.append(Line(name.upper(), rest.strip()))
    return found


def lines_of(lines: Sequence[Line], target: str) -> list[Line]:
    """The instructions of a target, after those of the stages that it is made from.

    :raises ValueError: there is no such stage.
    """
    stages: dict[str, tuple[str, list[Line]]] = {}
    name = ""
    for line in lines:
        if line.name == "FROM":
            base, _, name = line.rest.partition(" AS ")
            stages[name] = (base, [])
        elif name:
            stages[name][1].append(line)
    if target not in stages:
        raise ValueError(f"there is no stage {target!r}; there are {', '.join(stages)}")
    base, own = stages[target]
    return [*(lines_of(lines, base) if base in stages else ()), *own]


class Image:
    """What the lines make, below ``root``."""

    def __init__(self, root: Path, given: dict[str, str]) -> None:
        self.root = root
        self.given = given
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("LATENTD_", "PYTHON", "VIRTUAL"))
        }
        self.environment = {**kept, "HOME": str(root)}
        self.arguments: dict[str, str] = {}
        self.folder = root
        self.entry: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []

    def below(self, text: str) -> str:
        """``text`` with the image's absolute paths below the root."""
        return IMAGE_PATHS.sub(lambda found: f"{self.root}/{found[1]}", text)

    def carry_out(self, line: Line) -> None:
        """Do what the line says.

        :raises CalledProcessError: a RUN failed. :raises FileNotFoundError: a COPY has no source.
        """
        act = getattr(self, f"_{line.name.lower()}", None)
        print(f"{line.name} {line.rest}{'' if act else '   (left out)'}", flush=True)
        if act is not None:
            act(line.rest)

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.arguments[name] = self.given.get(name, default)

    def _env(self, rest: str) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            self.environment[name] = os.path.expandvars(self.below(value).replace("$PATH", self.environment["PATH"]))

    def _workdir(self, rest: str) -> None:
        self.folder = Path(self.below(rest))
        self.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        into = self.folder / self.below(target)
        for source in map(Path, sources):
            if source.is_dir():
                hidden = shutil.ignore_patterns("__pycache__", "tests")
                shutil.copytree(source, into, dirs_exist_ok=True, ignore=hidden)
            else:
                place = into / source.name if target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)

    def _run(self, rest: str) -> None:
        script = self.below(NEEDS_ROOT.sub("true ", rest))
        subprocess.run(["sh", "-ec", script], cwd=self.folder, env=self.environment | self.arguments, check=True)

    def _entrypoint(self, rest: str) -> None:
        self.entry = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest[rest.index("CMD ") + 4 :])

    def serve(self, port: str, seconds: float) -> None:
        """Start the entry point, see the health check pass, and end it.

        :raises TimeoutError: it is not well in time. :raises RuntimeError: it ends by itself, or not with status 0.
        """
        command = [shutil.which(self.entry[0], path=self.environment["PATH"]) or self.entry[0], *self.entry[1:]]
        server = subprocess.Popen([*command, *self.command, "--port", port], cwd=self.folder, env=self.environment)
        try:
            for _ in self._tries(server, seconds):
                asked = [word.replace(PORT, port) for word in self.health]
                if subprocess.run(asked, env=self.environment, capture_output=True, check=False).returncode == 0:
                    break
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(30)
        if status != 0:
            raise RuntimeError(f"SIGTERM ended the server with status {status}")
        print("the health check passed, and SIGTERM ended the server with status 0")

    @staticmethod
    def _tries(server: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with status {server.returncode}")
            yield
            time.sleep(0.5)
        raise TimeoutError(f"the health check did not pass within {seconds} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every line did what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--root", type=Path, required=True, help="an empty folder, or one that is to be made")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--port", default=PORT)
    parser.add_argument("--seconds", type=float, default=300.0, help="for the server's start")
    own = parser.parse_args(arguments)
    own.root.mkdir(parents=True, exist_ok=True)
    if any(own.root.iterdir()):
        parser.error(f"--root {own.root} is not empty")
    image = Image(own.root.resolve(), dict(pair.split("=", 1) for pair in own.build_arg))
    for line in lines_of(read_lines(own.dockerfile), own.target):
        image.carry_out(line)
    image.serve(own.port, own.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the OpenAPI document lets a client send, and some that it does not, to a server with every plugin: no 500.

python -m tests.fuzz.api --seconds 600
"""

from __future__ import annotations

import argparse
import base64
import io
import logging
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from fastapi.testclient import TestClient
from PIL import Image

from latentd.server.app import create_app
from latentd.settings import parse_settings
from tests.api.conftest import write_empty_checkpoint

#: 5xx that are no fault: what is not built in, and what cannot be served now (a full disk among these).
ALLOWED = (501, 503, 507)
#: Seconds for one answer; the first one waits for imports.
PATIENCE = 300.0
#: A paused queue would keep every later generation waiting; the events of all jobs never end.
ENDLESS = ("/pause", "/latentd/v1/events")
#: Fields that hold pictures, alone or in lists.
PICTURES = frozenset(
    (
        *("image", "mask", "init_images", "firstpass_image", "latent_mask", "input_image"),
        *("controlnet_input_images", "controlnet_masks"),
    )
)


@contextmanager
def described(data: Path) -> Iterator[Any]:
    """The schema of a server in this process with every plugin; its generations are planned and fail when they load."""
    write_empty_checkpoint(data)
    app = create_app(parse_settings(["--data-dir", str(data), "--allowed-hosts", "*"], environment={}))
    app.state.services.options.update({"sd_model_checkpoint": "empty.safetensors"})
    app.openapi()  # which takes longer than the next line waits on a busy machine
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def bad_answers(schema: Any, *, examples: int, seed: int, until: float = math.inf) -> tuple[int, dict[str, str]]:
    """(requests sent, what was wrong by operation): ``examples`` requests as described and as many that are not.

    :param seed: the same one gives the same requests, in the same order of operations.
    :param until: ``time.monotonic()`` after which no further operation is begun.
    """
    sent, bad = 0, {}
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [operation for operation in operations if not operation.path.endswith(ENDLESS)]
    random.Random(seed).shuffle(operations)
    for operation in operations:
        if time.monotonic() > until:
            break
        modes = [schemathesis.GenerationMode.POSITIVE]
        if _can_be_asked_wrongly(operation):
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            try:
                sent += _try(operation.as_strategy(generation_mode=mode), examples, seed)
            except AssertionError as error:
                bad[f"{operation.method.upper()} {operation.path}"] = str(error)
    return sent, bad


def _can_be_asked_wrongly(operation: Any) -> bool:
    """Whether it has an input beside texts in its path, where every text is one; no input, no wrong one."""
    parameters = [parameter.definition for parameter in operation.iter_parameters()]
    return bool(operation.body) or any(
        one["in"] != "path" or one["schema"].get("type") != "string" for one in parameters
    )


def _try(cases: Any, examples: int, seed: int) -> int:
    sent = 0

    @hypothesis.seed(seed)
    @hypothesis.given(case=cases, pictured=hypothesis.strategies.booleans())
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    def answered(case: Any, pictured: bool) -> None:
        nonlocal sent
        sent += 1
        if pictured:
            case.body = with_pictures(case.body)
        response = case.call(timeout=PATIENCE)
        assert response.status_code < 500 or response.status_code in ALLOWED, f"{case.body!r}: {response.text}"

    answered()
    return sent


def with_pictures(body: Any) -> Any:
    """``body``, in which every text that should be a picture is one."""
    if isinstance(body, list):
        return [with_pictures(entry) for entry in body]
    if not isinstance(body, dict):
        return body
    return {key: _pictures(value) if key in PICTURES else with_pictures(value) for key, value in body.items()}


def _pictures(value: Any) -> Any:
    if isinstance(value, list):
        return [_pictures(entry) for entry in value]
    return PICTURE if isinstance(value, str) else with_pictures(value)


def _picture() -> str:
    out = io.BytesIO()
    Image.new("RGBA", (9, 7), (200, 30, 60, 128)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


PICTURE = _picture()


def main() -> int:
    """0 when no answer was bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.api")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--examples", type=int, default=20, help="of each kind, for each operation in one round")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    until, seed, count = time.monotonic() + arguments.seconds, arguments.seed, 0
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, described(Path(folder)) as schema:
        while time.monotonic() < until:
            sent, bad = bad_answers(schema, examples=arguments.examples, seed=seed, until=until)
            count, seed = count + sent, seed + 1
            for operation, what in bad.items():
                if found.setdefault(operation, what) is what:
                    print(f"{operation}: {what}", flush=True)
    print(f"{count} requests, {len(found)} operations with bad answers", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

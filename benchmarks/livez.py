"""How long ``/livez`` keeps a client waiting while hostile requests run: none may hold the event loop or the GIL.

Starts a real server, asks ``/livez`` every 10 ms on a kept connection, sends one hostile request after the other beside
it, and prints for each its status, the seconds until its answer, and the longest that ``/livez`` took; the first row is
that of an idle server, since on a shared machine other processes hold up both. Asserts nothing.

    python benchmarks/livez.py --only infotext json --data-dir DIR
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shlex
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from _data import assembled
from PIL import Image
from progress_latency import Server, served
from server_process import SERVE

EVERY = 0.01
#: Seconds after which a request that still runs is interrupted, and that one waits for its answer afterwards.
PATIENCE = 10.0
TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
SMALL = {"steps": 1, "width": 64, "height": 64}


@dataclass
class Watch:
    """Milliseconds that each ``/livez`` took."""

    taken: list[float] = field(default_factory=list)

    @contextmanager
    def during(self, port: int) -> Iterator[None]:
        """Ask until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._ask, args=(port, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _ask(self, port: int, ended: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while not ended.is_set():
                begun = time.perf_counter()
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while not connection.recv(65536).endswith(b"}"):
                    pass
                self.taken.append((time.perf_counter() - begun) * 1000)
                time.sleep(EVERY)


@dataclass(frozen=True)
class Request:
    """A hostile request: how its body is made, and where it goes."""

    path: str
    make: Callable[[], bytes | object] = lambda: None
    method: str = "POST"
    headers: str = ""

    def ask(self, port: int) -> tuple[int, int]:
        """(status, bytes of the answer)."""
        made = self.make()
        body = b"" if made is None else made if isinstance(made, bytes) else json.dumps(made).encode()
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\n{self.headers}Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode())
            connection.sendall(body)  # joined to the head, 200 MB would hold up the watching thread of this process
            answer = connection.recv(1 << 16)
            size = len(answer)
            while piece := connection.recv(1 << 16):
                size += len(piece)
        return int(answer.split(b" ", 2)[1]), size


def png(width: int, height: int, colour: str = "white") -> str:
    """Base64 of a flat picture."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def noisy(size: int) -> str:
    """Base64 of a square picture that does not pack."""
    out = io.BytesIO()
    Image.effect_noise((size, size), 100).convert("RGB").save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()


def prompt(text: str, **fields: object) -> Callable[[], object]:
    """The body of a small txt2img with that prompt."""
    return lambda: {**SMALL, "prompt": text, **fields}


def script(title: str, *arguments: object, **fields: object) -> Callable[[], object]:
    return lambda: {**SMALL, "prompt": "a|b", "script_name": title, "script_args": list(arguments), **fields}


def plot(steps: str) -> Callable[[], object]:
    """The body of an X/Y/Z plot over these numbers of steps."""
    axes = [4, steps, [], 0, "", [], 0, "", []]
    switches = [True, False, False, False, False, False, False, 0]
    return script("x/y/z plot", *axes, *switches)


def extras(picture: Callable[[], str], **fields: object) -> Callable[[], object]:
    return lambda: {"image": picture(), "upscaler_1": "Lanczos", "upscaling_resize": 4, **fields}


MATRIX = script("prompt matrix", False, False, "positive", "comma", 0, prompt="|".join("abcdefghijk"))
PATTERN = {"samples_filename_pattern": "[<" * 9_000}
LINES_SCRIPT = "prompts from file or textbox"
REQUESTS: dict[str, Request] = {
    "BREAK 5,000 times": Request(TXT2IMG, prompt("BREAK " * 5000)),
    "x AND 5,000 times": Request(TXT2IMG, prompt("x AND " * 5000)),
    "[a|b] 50 times, 1,000 steps": Request(TXT2IMG, prompt("[a|b]" * 50, steps=1000)),
    "<lora:x:1> 2,000 times": Request(TXT2IMG, prompt("<lora:x:1>" * 2000)),
    "prompt of a million tokens": Request(TXT2IMG, prompt("a " * 1_000_000)),
    "prompt of 10,000 tokens": Request(TXT2IMG, prompt("a " * 9_999)),
    "one word of 100,000 letters": Request(TXT2IMG, prompt("a" * 100_000)),
    "one word of 19,000 letters": Request(TXT2IMG, prompt("a" * 19_000)),
    "Tibetan marks": Request(TXT2IMG, prompt("\u0f71\u0f72" * 9_900)),
    "HTML entities": Request(TXT2IMG, prompt("&amp;" * 3_900)),
    "open brackets": Request(TXT2IMG, prompt("[" * 19_900)),
    "open weights": Request(TXT2IMG, prompt("(" * 9_900 + "a" + ")" * 9_900)),
    "infotext of 20 MB": Request(TXT2IMG, lambda: {**SMALL, "infotext": "Steps: 20, Size: 64x64\n" * 850_000}),
    "infotext of 150 kB": Request(TXT2IMG, lambda: {**SMALL, "infotext": "a: b, " * 25_000}),
    "infotext of 150 kB, lines": Request(TXT2IMG, lambda: {**SMALL, "infotext": "a\n" * 75_000}),
    "[<<<... in a file pattern": Request(TXT2IMG, prompt("a", save_images=True, override_settings=PATTERN)),
    "prompts from file, 5,000 lines": Request(TXT2IMG, script(LINES_SCRIPT, False, False, "start", "a\n" * 5000)),
    "prompts from file, --n_iter 10^9": Request(
        TXT2IMG, script(LINES_SCRIPT, False, False, "start", "--prompt a --n_iter 1000000000")
    ),
    "X/Y/Z with 1e999": Request(TXT2IMG, plot("1e999")),
    "X/Y/Z with 10^400": Request(TXT2IMG, plot("1" + "0" * 400)),
    "X/Y/Z with 1-1000000000": Request(TXT2IMG, plot("1-1000000000")),
    "prompt matrix with 10 bars": Request(TXT2IMG, MATRIX),
    "100,000 empty init_images": Request(IMG2IMG, lambda: {"init_images": [""] * 99_000}),
    "66,000 faults": Request(IMG2IMG, lambda: {"init_images": [{}] * 33_000 + [[]] * 33_000}),
    "body of 100 MB of spaces": Request(IMG2IMG, lambda: b" " * (100 << 20)),
    "JSON of 100,000 numbers": Request("/sdapi/v1/options", lambda: {"x": list(range(99_000))}),
    "JSON text of 200 MB": Request(IMG2IMG, lambda: {"init_images": ["A" * (200 << 20)]}),
    "JSON text of 40 MB of escapes": Request(IMG2IMG, lambda: {"init_images": ['"' * (20 << 20)]}),
    "ten million quotes": Request(IMG2IMG, lambda: b'"' * 10_000_000),
    "nesting of 90,000": Request(IMG2IMG, lambda: b"[" * 90_000),
    "6 pictures of 63 MP": Request(IMG2IMG, lambda: {**SMALL, "batch_size": 6, "init_images": [png(9000, 7000)] * 6}),
    "3 pictures of 63 MP": Request(IMG2IMG, lambda: {**SMALL, "batch_size": 3, "init_images": [png(9000, 7000)] * 3}),
    "png-info of 63 MP": Request("/sdapi/v1/png-info", lambda: {"image": png(9000, 7000)}),
    "png-info of 40 MB": Request("/sdapi/v1/png-info", lambda: {"image": noisy(4000)}),
    "detect, 6 pictures of 63 MP": Request(
        "/controlnet/detect",
        lambda: {"controlnet_module": "canny", "controlnet_input_images": [png(9000, 7000)] * 6},
    ),
    "detect, 2 pictures of 63 MP": Request(
        "/controlnet/detect",
        lambda: {"controlnet_module": "invert", "controlnet_input_images": [png(9000, 7000)] * 2},
    ),
    "extras of 1 x 60,000": Request("/sdapi/v1/extra-single-image", extras(lambda: png(1, 60_000), upscaling_resize=8)),
    "extras of 60,000 x 1": Request("/sdapi/v1/extra-single-image", extras(lambda: png(60_000, 1), upscaling_resize=8)),
    "extras to 1 x 60,000": Request(
        "/sdapi/v1/extra-single-image",
        extras(
            lambda: png(64, 64), resize_mode=1, upscaling_resize_w=1, upscaling_resize_h=60_000, upscaling_crop=False
        ),
    ),
    "extras, noise to 36 MP": Request("/sdapi/v1/extra-single-image", extras(lambda: noisy(1500))),
    "extras, packed answer": Request(
        "/sdapi/v1/extra-single-image", extras(lambda: noisy(1000)), headers="Accept-Encoding: gzip\r\n"
    ),
    "1,000,000 x 64": Request(TXT2IMG, lambda: {"steps": 1, "width": 1_000_000, "height": 64}),
    "4096 x 4096 on a CPU": Request(TXT2IMG, lambda: {"steps": 1, "width": 4096, "height": 4096}),
    "preview of 2048 x 2048": Request(
        TXT2IMG,
        lambda: {
            "steps": 3,
            "width": 2048,
            "height": 2048,
            "override_settings": {"show_progress_type": "Full", "show_progress_every_n_steps": 1},
        },
    ),
    "hr_second_pass_steps -5": Request(
        TXT2IMG, prompt("a", enable_hr=True, denoising_strength=0.5, hr_second_pass_steps=-5)
    ),
    "batch of 1,024": Request(TXT2IMG, prompt("a", batch_size=1024)),
    "the OpenAPI document": Request("/openapi.json", method="GET"),
    "list of checkpoints": Request("/sdapi/v1/sd-models", method="GET"),
    "looking for checkpoints": Request("/sdapi/v1/refresh-checkpoints"),
    "list of embeddings": Request("/sdapi/v1/embeddings", method="GET"),
    "list of LoRA files": Request("/sdapi/v1/loras", method="GET"),
    "list of extensions": Request("/latentd/v1/plugins", method="GET"),
    "facts on the system": Request("/internal/sysinfo", method="GET"),
    "all options": Request("/sdapi/v1/options", method="GET"),
}


def measure(server: Server, request: Request) -> tuple[str, float, Watch]:
    """(status or what became of it, seconds, the watch) of one request; one that runs on is interrupted."""
    watch, outcome = Watch(), [""]
    body = request.make()
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    ready = Request(request.path, lambda: data, request.method, request.headers)

    def ask() -> None:
        try:
            outcome[0] = "{}, {} bytes".format(*ready.ask(server.port))
        except (OSError, ValueError, IndexError) as error:
            outcome[0] = type(error).__name__

    with watch.during(server.port):
        begun = time.perf_counter()
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(PATIENCE)
        stopped = ""
        if asking.is_alive():
            interrupted = time.perf_counter()
            Request("/sdapi/v1/interrupt").ask(server.port)
            asking.join(120)
            stopped = f", stopped within {time.perf_counter() - interrupted:.1f} s"
        taken = time.perf_counter() - begun
        time.sleep(5 * EVERY)
    return outcome[0] + stopped, taken, watch


def row(name: str, taken: float, watch: Watch, outcome: str) -> None:
    print(
        f"{name:36} {taken:8.2f} {statistics.median(watch.taken):8.1f} {max(watch.taken):8.1f}  {outcome}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of the requests to send")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds for which the idle server is asked")
    parser.add_argument("--data-dir", help="data directory with a checkpoint; default: the tests' tiny models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data_dir or assembled(folder)
        with served(shlex.join(SERVE), data) as server:
            print(f"{'':36} {'seconds':>8} {'median':>8} {'longest':>8}  ms of /livez; answer")
            watch = Watch()
            with watch.during(server.port):
                time.sleep(arguments.idle)
            row("(idle)", arguments.idle, watch, "")
            for name, request in REQUESTS.items():
                if any(part in name for part in arguments.only):
                    outcome, taken, watch = measure(server, request)
                    row(name, taken, watch, outcome)


if __name__ == "__main__":
    main()

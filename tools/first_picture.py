"""``make run``: starts the server, has it draw a first picture, says how to go on, and keeps it serving."""

from __future__ import annotations

import base64
import signal
import sys
from pathlib import Path

from server_process import ServerDied, call, server_process

PICTURE = Path("picture.png")
FIRST = {"prompt": "a red apple", "steps": 20, "seed": 1, "width": 128, "height": 128, "cfg_scale": 5}
FAREWELL = """
{picture} is the first picture of latentd at {address} (documentation: {address}/docs).
The next one: open {address} in a browser, or, from another terminal:

  curl -s {address}/sdapi/v1/txt2img -H 'Content-Type: application/json' \\
    -d '{{"prompt": "a sunflower", "steps": 20, "width": 128, "height": 128}}' \\
    | python3 -c 'import base64, json, sys; \\
        open("next.png", "wb").write(base64.b64decode(json.load(sys.stdin)["images"][0]))'

Ctrl-C stops the server.
"""


def main(port: str, flags: list[str]) -> int:
    """Serve until interrupted or terminated; 1 when the server does not start or draw."""
    # make passes SIGTERM on to this process alone; the server must not outlive it. A shell that starts this in the
    # background would have SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        with server_process("--port", port, *flags, echo=True) as server:
            try:
                answer = call(server.url, "/sdapi/v1/txt2img", FIRST)
            except RuntimeError as error:
                print(f"the first picture failed: {error}", file=sys.stderr)
                return 1
            PICTURE.write_bytes(base64.b64decode(answer["images"][0]))
            print(FAREWELL.format(picture=PICTURE, address=server.url), flush=True)
            return server.process.wait()
    except ServerDied as error:
        print(f"{error}; on another port: make run PORT=7861", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

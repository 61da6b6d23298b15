"""Flags of the HTTP server: address, authentication, cross-origin rules, bounds."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.settings.flag import integer, number, switch, text, texts

GROUP = "network and API"
BOUNDS = "bounds"


@dataclass(frozen=True, kw_only=True)
class ServerFlags:
    """Where the server listens, and which clients it serves."""

    listen: bool = switch("serve every network interface (0.0.0.0) instead of this machine alone", group=GROUP)
    server_name: str | None = text(None, "address or host name to bind to", group=GROUP)
    port: int | None = integer(None, "port to bind to; 7860, or 7861 with --nowebui", group=GROUP)
    subpath: str | None = text(None, "path prefix that a reverse proxy strips", group=GROUP)
    api_auth: str | None = text(
        None, "users for HTTP basic authentication, as user:password,user2:password2", group=GROUP, secret=True
    )
    api_key: tuple[str, ...] = texts(
        (), "accept this bearer key; may be given several times", group=GROUP, secret=True, listed=False
    )
    api_keys_file: str | None = text(
        None,
        "file of hashed bearer keys with what each allows (latentd new-key writes its lines); none of the server's "
        "secrets is in it",
        group=GROUP,
        metavar="FILE",
        listed=False,
    )
    api_log: bool = switch("log one line for every API request", group=GROUP)
    api_server_stop: bool = switch("offer the endpoints that stop, restart and kill the server", group=GROUP)
    nowebui: bool = switch("AUTOMATIC1111's API-only mode: moves the default port to 7861", group=GROUP)
    timeout_keep_alive: int = integer(30, "seconds for which an idle connection stays open", group=GROUP)
    allowed_hosts: tuple[str, ...] = texts(
        (),
        "names by which browsers reach this server, beside its addresses, localhost, --server-name and those of its "
        "certificate, separated by commas; .example.com is a domain with all below it, * any name",
        group=GROUP,
        listed=False,
        commas=True,
    )
    cors_allow_origins: str | None = text(
        None, "origins allowed to call from a browser, separated by commas", group=GROUP
    )
    cors_allow_origins_regex: str | None = text(
        None, "regular expression for origins allowed to call from a browser", group=GROUP
    )
    tls_keyfile: str | None = text(None, "private key for TLS; needs --tls-certfile too", group=GROUP)
    tls_certfile: str | None = text(None, "certificate for TLS; needs --tls-keyfile too", group=GROUP)
    allow_image_urls: bool = switch(
        "let requests name pictures by http(s) URL (guarded: public addresses only, no redirects, bounded)",
        group=GROUP,
        listed=False,
    )
    cancel_on_disconnect: bool = switch(
        "cancel a generation whose client closes the connection before the answer", group=GROUP, listed=False
    )
    loglevel: str | None = text(
        None, "how much to log", group=GROUP, choices=("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
    )
    log_format: str = text(
        "text",
        "form of the log: lines to read, or one JSON object a line with the id of the job that it is about",
        group=GROUP,
        choices=("text", "json"),
        listed=False,
    )

    max_connections: int = integer(
        2000,
        "connections that may be open, fewer where file descriptors do not suffice; for one more, one that says "
        "nothing is closed, and where all are at work it is answered 503",
        group=BOUNDS,
        listed=False,
    )
    timeout_request: float = number(
        30.0,
        "seconds for the head of a request, and for which its body may stand still or fall behind 1 KiB a second; a "
        "client that takes longer is answered 408",
        group=BOUNDS,
        listed=False,
    )
    timeout_reply: float = number(
        60.0,
        "seconds for which a client may leave a reply unread before its connection is closed",
        group=BOUNDS,
        listed=False,
    )
    max_queue: int = integer(1000, "jobs that may wait; further ones are answered 429", group=BOUNDS, listed=False)
    share_batches: int | None = integer(
        None,
        "jobs that wait and are alike are made together, up to this many pictures of 512x512; 0 makes each by itself; "
        "by default 8 on an accelerator and 0 on a CPU",
        group=BOUNDS,
        listed=False,
    )
    max_request_mb: float = number(
        256.0,
        "largest request body in MiB, of requests that may hold pictures (others: 4 MiB); larger ones are answered 413",
        group=BOUNDS,
        listed=False,
    )
    max_image_mp: float = number(
        64.0, "largest picture accepted or generated, in megapixels", group=BOUNDS, listed=False
    )
    max_image_side: int = integer(
        16_384, "pixels of the longest side of a generated picture", group=BOUNDS, listed=False
    )
    max_steps: int = integer(1000, "most sampling steps a request may ask for", group=BOUNDS, listed=False)
    max_images: int = integer(
        1024, "most pictures (batch size times batches) a request may ask for", group=BOUNDS, listed=False
    )
    max_batch_mp: float = number(
        256.0,
        "most megapixels of the pictures that are sampled together (batch size times area) or given for one generation",
        group=BOUNDS,
        listed=False,
    )
    max_total_mp: float = number(
        2048.0,
        "most megapixels of all pictures of one request, generated or given to extras",
        group=BOUNDS,
        listed=False,
    )
    max_prompt_length: int = integer(
        20_000, "characters of the longest prompt, its styles included", group=BOUNDS, listed=False
    )
    max_prompt_parts: int = integer(
        100, "most prompts joined by AND, BREAKs and networks, each, in one prompt", group=BOUNDS, listed=False
    )
    result_ttl: float = number(600.0, "seconds for which finished jobs keep their pictures", group=BOUNDS, listed=False)
    result_mb: float = number(512.0, "most memory in MiB for the pictures of finished jobs", group=BOUNDS, listed=False)

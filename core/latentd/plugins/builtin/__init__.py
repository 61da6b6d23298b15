"""What the core itself brings, through the same hooks as any plugin."""

from __future__ import annotations

# Loaded in this order, before any plugin; named, not imported, so that the host depends on none of them.
BUILTINS: tuple[str, ...] = (
    "latentd.plugins.builtin.samplers",
    "latentd.plugins.builtin.upscalers",
    "latentd.pipeline.pipeline_plugin",
)

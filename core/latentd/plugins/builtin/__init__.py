"""The core's own plugins, which use the same hooks as any other."""

from __future__ import annotations

# Loaded in this order before other plugins. They are named rather than imported, so that the host depends on none.
BUILTINS: tuple[str, ...] = (
    "latentd.plugins.builtin.samplers",
    "latentd.plugins.builtin.upscalers",
    "latentd.pipeline.pipeline_plugin",
)

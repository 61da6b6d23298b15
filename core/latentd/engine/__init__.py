"""Jobs: a bounded queue, one worker thread a device that owns torch, progress, previews and events. No FastAPI."""

"""Jobs: a bounded queue, a worker thread with torch for each device, progress, previews and events, without FastAPI."""

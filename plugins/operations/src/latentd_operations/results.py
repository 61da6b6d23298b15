"""What became of a job: its pictures, or the status of its error."""

from __future__ import annotations

from latentd.api import LatentdError, Services


def drawn(services: Services, job_id: str) -> tuple[int, str | None]:
    """How many pictures a completed job has, grids and the like left out, and the name of its sampler.

    The sampler is None where there is none, and so is everything where results are kept for no time at all.
    """
    try:
        result = services.queue.get(job_id).outcome()
    except LatentdError:
        return 0, None
    pictures = [image for image in getattr(result, "images", ()) if getattr(image, "role", "image") == "image"]
    sampler = getattr(result, "info", {}).get("sampler_name")
    return len(pictures), sampler if sampler in services.registry.samplers else None


def status_of(services: Services, job_id: str) -> int:
    """The HTTP status of a failed job's error, as its request is answered: 500 for what is no error of latentd's."""
    try:
        error = services.queue.get(job_id).error
    except LatentdError:
        return 500
    return error.status if isinstance(error, LatentdError) else 500

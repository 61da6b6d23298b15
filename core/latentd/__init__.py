"""latentd: a Stable Diffusion server that speaks AUTOMATIC1111's web API."""

__version__ = "0.1.0"

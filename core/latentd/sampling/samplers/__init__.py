"""The samplers: functions ``(denoiser, x, run) -> x`` that turn starting noise into a latent.

Samplers of kind "sigma" follow k-diffusion's formulas, those of kind "timestep" AUTOMATIC1111's since 1.6.
"""

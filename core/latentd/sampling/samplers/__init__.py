"""The samplers: functions ``(denoiser, x, run) -> x`` that turn starting noise into a latent.

Kind "sigma" follows k-diffusion's formulas, kind "timestep" AUTOMATIC1111's implementation since 1.6.
"""

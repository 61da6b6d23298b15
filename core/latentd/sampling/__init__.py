"""Noise, noise schedules and samplers: functions of their arguments, without server, files or options.

Importing this package or its modules ``spec``, ``catalogue`` and ``steps`` does not import torch.
"""

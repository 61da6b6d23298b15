"""Weight files in pickle form: followed and read in a process of its own, converted to safetensors, mapped from there.

``walk``, ``stand_ins``, ``containers``, ``describe``, ``convert`` and ``process`` are the reader's process and need the
standard library alone; ``reader``, ``converted`` and ``rebuild`` are this side of the pipe.
"""

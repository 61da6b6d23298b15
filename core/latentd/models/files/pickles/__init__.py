"""Weight files in pickle form: checked and read in a separate process, converted to safetensors, then memory-mapped.

``walk``, ``stand_ins``, ``containers``, ``describe``, ``convert`` and ``process`` run in the reader's process and
import only the standard library; ``reader``, ``converted`` and ``rebuild`` run in the server's.
"""

"""Make ``mtcnn.safetensors`` from the weights in the wheel of facenet-pytorch 2.6.0.

usage: convert_mtcnn.py facenet_pytorch-2.6.0-py3-none-any.whl OUT.safetensors

The wheel: ``pip download --no-deps facenet-pytorch==2.6.0``. Its three networks become one file, each tensor under
``pnet.``, ``rnet.`` or ``onet.``; values are untouched.
"""

from __future__ import annotations

import io
import sys
import zipfile

import torch
from safetensors.torch import save_file


def main(wheel: str, out: str) -> None:
    """Write ``out`` from ``wheel``."""
    weights = {}
    with zipfile.ZipFile(wheel) as archive:
        for net in ("pnet", "rnet", "onet"):
            data = io.BytesIO(archive.read(f"facenet_pytorch/data/{net}.pt"))
            for key, tensor in torch.load(data, map_location="cpu", weights_only=True).items():
                weights[f"{net}.{key}"] = tensor.contiguous()
    metadata = {"source": "facenet-pytorch 2.6.0", "license": "MIT, Copyright (c) 2019 Timothy Esler"}
    save_file(weights, out, metadata=metadata)


if __name__ == "__main__":
    main(*sys.argv[1:])

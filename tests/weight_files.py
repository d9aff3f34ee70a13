"""Files of weights for tests: real names and shapes, with a hole where the numbers would be."""

import json
import math
import struct

import torch
from torchvision.models import inception_v3, resnet34


def shapes_of(make):
    """Return the names and shapes of a network's tensors; no number is made."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}


FAIRFACE = shapes_of(lambda: resnet34(num_classes=18))
INCEPTION = shapes_of(lambda: inception_v3(weights=None, init_weights=False, aux_logits=True))


def write_header(path, shapes):
    """Write a safetensors file with these tensors, all zero: the disk keeps its header alone."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path

"""Snapshots as EDM's training writes them: the same pickle, made without its code, with weights that anyone can draw.

An object there pickles as a call of torch_utils.persistence._reconstruct_persistent_obj with the source of its class.
The source here is a trap: it would leave a file behind.
"""

import pickle
import sys
import types
import zlib
from collections import OrderedDict

import numpy as np
import torch

TRAP = "import pathlib\npathlib.Path({path!r}).touch()\n"


def drawn(name, shape):
    """A tensor by its name: matrices N(0, 1 / fan_in), gains N(1, 0.2^2), all else N(0, 0.1^2)."""
    n = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) > 1:
        return n / (n.numel() / shape[0]) ** 0.5
    return 1 + 0.2 * n if "norm" in name and name.endswith("weight") else 0.1 * n


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the pickle was run")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    """As dnnlib's."""


EasyDict.__module__ = "dnnlib.util"


class Saved:
    """A module as it is pickled: class, attributes, and tables of tensors and modules."""

    def __init__(self, kind, tensors=(), parts=(), buffers=(), source="", **attributes):
        self.kind, self.source = kind, source
        self.state = {
            "training": False,
            "_parameters": OrderedDict(
                (k, None if v is None else torch.nn.Parameter(v, False)) for k, v in tensors
            ),
            "_buffers": OrderedDict(buffers),
            "_non_persistent_buffers_set": set(),
            "_forward_hooks": OrderedDict(),
            "_modules": OrderedDict(parts),
            **attributes,
        }

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.kind,
            "state": self.state,
        }
        return _reconstruct_persistent_obj, (meta,), None


class DhariwalUNet:
    """The layers of arch=adm, for a record of them."""

    def __init__(
        self, source="", out=3, width=128, mult=(1, 1), blocks=1, attention=(4,), size=8, label_dim=0, **other
    ):
        self.source, self.width, self.size = source, width, size
        self.attributes = {"skip_scale": 1, "adaptive_scale": True, **other}
        self.arguments = {
            "img_resolution": size, "in_channels": 3, "out_channels": out, "model_channels": width,
            "channel_mult": list(mult), "num_blocks": blocks, "attn_resolutions": list(attention),
            "label_dim": label_dim, "label_dropout": 0.1 if label_dim else 0, "augment_dim": 9, "dropout": 0.1,
            "init_weight": np.float64(0.5),
        }  # fmt: skip
        cout, enc, dec, skips = 3, [], [], []
        for level, m in enumerate(mult):
            res = size >> level
            if level == 0:
                enc.append((f"{res}x{res}_conv", self.conv(f"enc.{res}x{res}_conv", 3, width * m, 3)))
                cout = width * m
            else:
                enc.append(self.block(f"enc.{res}x{res}_down", cout, cout, change="down"))
            skips.append(cout)
            for i in range(blocks):
                enc.append(self.block(f"enc.{res}x{res}_block{i}", cout, width * m, attends=res in attention))
                cout = width * m
                skips.append(cout)
        for level, m in reversed(list(enumerate(mult))):
            res = size >> level
            if level == len(mult) - 1:
                dec.append(self.block(f"dec.{res}x{res}_in0", cout, cout, attends=True))
                dec.append(self.block(f"dec.{res}x{res}_in1", cout, cout))
            else:
                dec.append(self.block(f"dec.{res}x{res}_up", cout, cout, change="up"))
            for i in range(blocks + 1):
                name = f"dec.{res}x{res}_block{i}"
                dec.append(self.block(name, cout + skips.pop(), width * m, attends=res in attention))
                cout = width * m
        emb = 4 * width
        self.parts = [
            (
                "map_noise",
                Saved("PositionalEmbedding", num_channels=width, max_positions=10000, endpoint=False),
            ),
            ("map_augment", self.linear("map_augment", 9, width, bias=False)),
            ("map_layer0", self.linear("map_layer0", width, emb)),
            ("map_layer1", self.linear("map_layer1", emb, emb)),
            ("map_label", self.linear("map_label", label_dim, emb, bias=False) if label_dim else None),
            ("enc", torch.nn.ModuleDict()),
            ("dec", torch.nn.ModuleDict()),
            ("out_norm", self.norm("out_norm", cout)),
            ("out_conv", self.conv("out_conv", cout, out, 3)),
        ]
        for (_, table), modules in zip(self.parts[5:7], (enc, dec), strict=True):
            table._modules = OrderedDict(modules)

    def saved(self):
        """What stands in the pickle."""
        return Saved(
            "DhariwalUNet", parts=self.parts, source=self.source, _init_args=(), _init_kwargs=self.arguments
        )

    def of(self, kind, name, shapes, **attributes):
        tensors = [
            (key, None if shape is None else drawn(f"{name}.{key}", shape)) for key, shape in shapes.items()
        ]
        return Saved(kind, tensors, source=self.source, **attributes)

    def linear(self, name, a, b, bias=True):
        return self.of("Linear", name, {"weight": (b, a), "bias": (b,) if bias else None})

    def norm(self, name, n):
        groups = min(32, n // 4)
        return self.of("GroupNorm", name, {"weight": (n,), "bias": (n,)}, num_groups=groups, eps=1e-5)

    def conv(self, name, a, b, kernel, change=None):
        shapes = (
            {"weight": (b, a, kernel, kernel), "bias": (b,)} if kernel else {"weight": None, "bias": None}
        )
        made = self.of("Conv2d", name, shapes, up=change == "up", down=change == "down", fused_resample=False)
        taps = self.attributes.get("taps", [1.0, 1.0])
        f = torch.tensor(taps).outer(torch.tensor(taps)) / sum(taps) ** 2
        made.state["_buffers"]["resample_filter"] = f[None, None] if change else None
        return made

    def block(self, path, a, b, change=None, attends=False):
        skip = self.conv(f"{path}.skip", a, b, 1 if a != b else 0, change) if a != b or change else None
        parts = [
            ("norm0", self.norm(f"{path}.norm0", a)),
            ("conv0", self.conv(f"{path}.conv0", a, b, 3, change)),
            ("affine", self.linear(f"{path}.affine", 4 * self.width, 2 * b)),
            ("norm1", self.norm(f"{path}.norm1", b)),
            ("conv1", self.conv(f"{path}.conv1", b, b, 3)),
            ("skip", skip),
        ]
        if attends:
            parts += [
                ("norm2", self.norm(f"{path}.norm2", b)),
                ("qkv", self.conv(f"{path}.qkv", b, 3 * b, 1)),
            ]
            parts += [("proj", self.conv(f"{path}.proj", b, b, 1))]
        heads = b // 64 if attends else 0
        own = {key: value for key, value in self.attributes.items() if key != "taps"}
        return path.split(".")[-1], Saved(
            "UNetBlock", parts=parts, num_heads=heads, source=self.source, **own
        )


def pickled(ema, protocol=4):
    """The bytes of a snapshot."""
    modules = {
        name: types.ModuleType(name)
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    modules["dnnlib.util"].EasyDict = EasyDict
    data = {
        "ema": ema,
        "loss_fn": Saved("EDMLoss", P_mean=-1.2, scale=np.sqrt(0.2)),
        "augment_pipe": None,
        "dataset_kwargs": EasyDict(path="photos.zip"),
    }
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        return pickle.dumps(data, protocol)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

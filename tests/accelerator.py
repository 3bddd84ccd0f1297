"""An accelerator that is not there: tensors that say they are elsewhere, computed on the CPU, to the bit the same.

    with Accelerator(): x.to(DEVICE) ...

What a real one refuses is refused here: to mix its tensors with others than single numbers of the CPU, and with those,
too, in what is not done number by number; to write into a tensor of the CPU; `numpy`; generators of another device; and
with `float64=False`, as on Apple's, any float64 and what this torch lists no kernel for there. Its name is torch's
`meta`, the one kind of device besides the CPU that every build of torch knows.

What it does not show: half precision by autocast, which torch does not have for `meta`, and what goes by the name of a
device, as CUDA graphs, memory and dropout's generators do.
"""

from contextlib import ExitStack
from functools import cache
from importlib import resources
from unittest import mock

import torch
import yaml
from torch import Tensor
from torch.__future__ import get_swap_module_params_on_conversion, set_swap_module_params_on_conversion
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
DOUBLE = (torch.float64, torch.complex128)
aten = torch.ops.aten
INDEXED = {  # by indices of the CPU, too, as on CUDA
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
}  # fmt: skip
TOGETHER = {  # number by number, and without numbers of the CPU
    aten.clamp.Tensor, aten.clamp_.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor, aten.addcmul.default,
    aten.addcmul_.default, aten.addcdiv.default, aten.addcdiv_.default,
}  # fmt: skip
AT_ONCE = {  # torch takes no note of signs to be turned later in tensors that hold others
    aten._conj.default: aten.conj_physical.default, aten._neg_view.default: aten.neg.default,
}  # fmt: skip
BUILT = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray, Tensor.new_tensor}


class Elsewhere(Tensor):
    """`held` is where the numbers are."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor):
        return Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE,
            requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: Tensor):
        self.held = held

    def __repr__(self, **_):
        return f"Elsewhere({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        raise AssertionError(f"{op} outside of the accelerator")


class Accelerator(ExitStack):
    def __init__(self, float64: bool = True):
        super().__init__()
        self.float64 = float64

    def __enter__(self):
        super().__enter__()
        self.callback(set_swap_module_params_on_conversion, get_swap_module_params_on_conversion())
        set_swap_module_params_on_conversion(True)  # parameters stay the same objects, which optimisers hold
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            self.enter_context(mock.patch(f"torch.{name}", _as_here(getattr(torch, name))))
        self.enter_context(_Made())
        self.enter_context(_Computed(self.float64))
        return self


class _Made(TorchFunctionMode):
    """Tensors from numbers, and indices: torch leaves those of `meta` empty."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is Tensor.tolist:
            return function(args[0].cpu())
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            at = tuple(torch.tensor(one) if isinstance(one, list) else one for one in at)
            return function(args[0], at, *args[2:])
        if function not in BUILT:
            return function(*args, **kwargs)
        given = kwargs.pop("device", args[0].device if function is Tensor.new_tensor else None)
        if function is Tensor.new_tensor:
            kwargs.setdefault("dtype", args[0].dtype)
            function, args = torch.tensor, args[1:]
        if isinstance(args[0], Elsewhere):
            return args[0].to(given or DEVICE, kwargs.get("dtype"))
        made = function(*args, **kwargs)
        return made if given is None else made.to(given)


class _Computed(TorchDispatchMode):
    def __init__(self, float64: bool):
        super().__init__()
        self.float64 = float64

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        from_there = any(isinstance(one, Elsewhere) for one in given)
        stays = kwargs.get("device") is None
        to_there = from_there if stays else torch.device(kwargs["device"]) == DEVICE
        if not (from_there or to_there):
            return op(*args, **kwargs)
        if not stays:
            kwargs["device"] = torch.device("cpu")
            kwargs.pop("pin_memory", None)
        self._refuse(op, args, kwargs, given)
        if not self.float64 and not _on_apple(op._schema.name, op._schema.overload_name):
            raise NotImplementedError(f"{op} is not there on Apple's devices")
        if from_there and not self.float64 and kwargs.get("dtype") in DOUBLE:
            raise TypeError(f"{op}: to the CPU first, this device has no float64")
        op = AT_ONCE.get(op, op)
        out = op(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not to_there:
            return out
        if not self.float64:
            for one in tree_flatten(out)[0]:
                if isinstance(one, Tensor) and one.dtype in DOUBLE:
                    raise TypeError(f"{op}: this device has no float64")
        out = tree_map(_elsewhere, out)
        return return_and_correct_aliasing(op, args, kwargs, out) if from_there else out

    def _refuse(self, op, args, kwargs, given):
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError(f"{op}: a generator of the CPU for {DEVICE}")
        if op is aten.copy_.default or len(given) == 1:
            return
        if op in INDEXED:
            indices = sum(one is not None for one in args[1])
            given = given[:1] + given[1 + indices :]
        numbers = op in INDEXED or (torch.Tag.pointwise in op.tags and op not in TOGETHER)
        others = [one for one in given if not isinstance(one, Elsewhere)]
        written = op._schema.arguments[0].is_write and not isinstance(given[0], Elsewhere)
        if written or any(one.ndim or not numbers for one in others):
            raise RuntimeError(f"{op}: all tensors have to be on one device, found {DEVICE} and cpu")


def _as_here(autocast):
    """torch has no autocast for `meta`."""

    def here(device_type, *given, **options):
        return autocast("cpu" if device_type == DEVICE.type else device_type, *given, **options)

    return here


COMPOSITE = {
    f"Composite{kind}" for kind in ("ImplicitAutograd", "ExplicitAutograd", "ExplicitAutogradNonFunctional")
}
ANYWHERE = COMPOSITE | {"MPS"}


@cache
def _kernels():
    """Of each operator of torch: the kernels that are listed, and whose kernels it takes instead."""
    text = resources.files("torchgen").joinpath("packaged/ATen/native/native_functions.yaml").read_text()
    found = {}
    for one in yaml.load(text, Loader=yaml.CSafeLoader):
        kernels = {kind.strip() for key in one.get("dispatch", {}) for kind in key.split(",")}
        found[one["func"].split("(")[0]] = kernels, one.get("structured_delegate")
    return found


def _on_apple(name, overload):
    kernels, others = _kernels()[name.removeprefix("aten::") + (f".{overload}" if overload else "")]
    if others is not None and not kernels & ANYWHERE:
        return _on_apple(*others.partition(".")[::2])
    return bool(kernels & ANYWHERE) or not kernels


def _held(one):
    return one.held if isinstance(one, Elsewhere) else one


def _elsewhere(one):
    return Elsewhere(one) if isinstance(one, Tensor) and not isinstance(one, Elsewhere) else one

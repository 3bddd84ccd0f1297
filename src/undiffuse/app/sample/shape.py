"""The shape of what is drawn, and the picture that a super-resolution prior enlarges."""

import hashlib

from torch import Tensor

from undiffuse.app.measurement import clean_shape, parse_size
from undiffuse.app.priors import Opened
from undiffuse.app.sample.start import Start
from undiffuse.app.sizes import any_size, check_shape
from undiffuse.config import SampleConfig
from undiffuse.core.images import read
from undiffuse.operators.build import build


def shape_of(
    opened: Opened, config: SampleConfig, start: Start | None
) -> tuple[tuple[int, ...], Tensor | None, str | None]:
    """(C, H, W), the condition (1, conditions, H, W), and the hash of its picture.

    ValueError for options that this prior does not have, and where nothing says the size.
    """
    prior = opened.prior
    if prior is not None and prior.conditions:
        return _low_res(opened, config)
    if config.low_res is not None:
        raise ValueError(f"--low-res, but the prior '{opened.name}' is not conditioned on a picture")
    if config.noise:
        raise ValueError("--noise is that of the picture of --low-res; leave it out")
    channels = 3 if prior is None else prior.channels
    if config.size is not None:
        return parse_size(config.size, channels), None, None
    if start is not None and start.pictures is not None and (prior is None or any_size(prior)):
        return (channels, *start.pictures.shape[2:]), None, None
    if prior is None or prior.size is None:
        raise ValueError(f"the prior '{opened.name}' has no size of its own; give --size, such as 64x64")
    return (channels, *prior.size), None, None


def _low_res(opened: Opened, config: SampleConfig) -> tuple[tuple[int, ...], Tensor, str]:
    from undiffuse.training.conditioning import LowRes, enlarged

    found = opened.config
    if found is None or found.low_res is None:
        raise ValueError(
            f"the prior '{opened.name}' is conditioned on a picture, but does not say which; use its file"
        )
    if config.low_res is None:
        raise ValueError(
            f"the prior '{opened.name}' restores {found.low_res}; give the picture with --low-res FILE"
        )
    y = read(config.low_res, measured=True).pixels[None]
    shape = clean_shape(found.low_res, config.size, y)
    check_shape(opened, shape)
    own = None if opened.prior is None or any_size(opened.prior) else opened.prior.size
    if config.size is None and own not in (None, shape[1:]):
        sizes = ["x".join(map(str, size)) for size in (y.shape[2:], shape[1:], own)]
        raise ValueError(
            f"'{config.low_res}' is {sizes[0]}, which {found.low_res} makes of {sizes[1]}, and the prior "
            f"'{opened.name}' was trained on {sizes[2]}: reduce the picture, or say --size {sizes[1]}"
        )
    small = build(found.low_res, shape).out_shape
    if y.shape[1:] != small:
        sizes = ["x".join(str(n) for n in s) for s in (y.shape[1:], small, shape)]
        raise ValueError(
            f"'{config.low_res}' is {sizes[0]}, but {found.low_res} gives {sizes[1]} from {sizes[2]}; "
            "say the size of the large picture with --size"
        )
    digest = hashlib.sha256(config.low_res.read_bytes()).hexdigest()
    if found.low_res_as == "bilinear":
        if config.noise:
            raise ValueError(
                f"--noise; the prior '{opened.name}' knows pictures without noise only: leave it out"
            )
        return shape, enlarged(y, shape), digest
    condition = LowRes(found.low_res, shape, augmentation=found.augmentation)
    return shape, condition.measured(y, 2 * config.noise), digest

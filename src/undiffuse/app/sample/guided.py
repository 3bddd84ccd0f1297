"""What guides the pictures beside their class: an interval of levels, a weaker prior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.priors import Opened, check_guidance, open_prior
from undiffuse.app.sizes import check_shape
from undiffuse.config import SampleConfig
from undiffuse.core.state import Denoise
from undiffuse.priors import Prior, autoguidance, class_guided


@dataclass(frozen=True, slots=True)
class Guidance:
    """How far, at which levels, and away from what."""

    scale: float
    interval: tuple[float, float] | None = None  # of sigma, in [-1, 1] units
    weaker: Opened | None = None  # None: away from the prior without its class

    def __call__(self, prior: Prior, labels: Tensor | None, cond: Tensor | None, /) -> Denoise:
        """The prior for these labels, guided."""
        if self.weaker is not None:
            weaker = self.weaker.prior
            assert weaker is not None
            good, bad = prior.given(labels, cond), weaker.given(labels, cond)
            return autoguidance(good, bad, self.scale, self.interval)
        if labels is None:
            return prior.given(None, cond)
        return class_guided(prior, labels, cond, scale=self.scale, interval=self.interval)

    def to(self, device: torch.device) -> None:
        """`Opened.to` of the weaker prior."""
        if self.weaker is not None:
            self.weaker.to(device)

    def ready(self, device: torch.device, compiled: bool = False) -> None:
        """`Opened.ready` of the weaker prior."""
        if self.weaker is not None:
            self.weaker.ready(device, compiled)

    def told(self) -> str:
        """What is not said by the class and the scale, in words."""
        away = "" if self.weaker is None else f", guided by {self.scale:g} away from {self.weaker}"
        return away + (
            "" if self.interval is None else ", for sigma from {:g} to {:g}".format(*self.interval)
        )


def read_guidance(opened: Opened, config: SampleConfig, labels: tuple[int | None, ...]) -> Guidance:
    """ValueError for what these priors cannot do, or would do in vain."""
    scale, interval = config.guidance, config.guidance_interval
    text, said = config.autoguidance, config.autoguidance_options
    weaker = None if text is None else _weaker(opened, text, said, labels)
    for name, given in (("--guidance-interval", interval), ("--autoguidance", weaker)):
        if given is not None and scale == 1:
            raise ValueError(f"{name} with --guidance 1, which is none; give --guidance 2, or leave it out")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError("--guidance-interval {:g},{:g}; expected 0 <= low < high".format(*interval))
    if scale != 1 and weaker is None and None in labels and config.label is not None:
        raise ValueError(
            f"--guidance {scale:g} is towards a class, and 'none' of --label {config.label} is no class; leave out "
            "'none', or --guidance"
        )
    for label in (labels[:1] if None not in labels else (None,)) if weaker is None else ():
        check_guidance(opened, label, scale)
    return Guidance(scale, interval, weaker)


def check_levels(guidance: Guidance, shape: tuple[int, ...], sigmas: Tensor) -> None:
    """ValueError if no level is guided, or the weaker prior does not know them all."""
    if guidance.interval is not None:
        low, high = guidance.interval
        if not ((sigmas > low) & (sigmas <= high)).any():
            span = f"{sigmas[-2].item():.3g} to {sigmas[0].item():.3g}"
            raise ValueError(f"--guidance-interval {low:g},{high:g} holds none of the levels, {span}")
    if guidance.weaker is not None:
        check_shape(guidance.weaker, shape)
        assert guidance.weaker.prior is not None
        known, top = guidance.weaker.prior.sigma_range[1], sigmas[0].item()
        if top > 1.01 * known:
            raise ValueError(
                f"--autoguidance: that prior knows sigma up to {known:g}, and the levels reach {top:g}"
            )


def _weaker(opened: Opened, text: str, said: str | None, labels: tuple[int | None, ...]) -> Opened:
    try:
        weaker = open_prior(text, said)
    except ValueError as error:
        raise ValueError(str(error).replace("--prior-options", "--autoguidance-options")) from None
    good, bad = opened.prior, weaker.prior
    if good is None or bad is None:
        raise ValueError(f"--autoguidance {text}; it is for two networks, and one of these is none")
    if weaker.sha256 == opened.sha256:
        raise ValueError(f"--autoguidance {text} is the prior itself; expected a smaller or less trained one")
    kinds = [_kind(one) for one in (opened, weaker)]
    for name, mine in kinds[0].items():
        if mine != (other := kinds[1][name]):
            raise ValueError(
                f"--autoguidance {text} has {name} {other}, and the prior {mine}; they must agree"
            )
    for label in {None} & set(labels):
        check_guidance(weaker, label, 1.0)
    return weaker


def _kind(opened: Opened) -> dict[str, object]:
    """What two priors of the same pictures have in common."""
    prior, found = opened.prior, opened.config
    assert prior is not None
    return {
        "channels": prior.channels,
        "classes": prior.num_classes,
        "the names of the classes": None if found is None else found.classes,
        "conditions": prior.conditions,
        "low_res": None if found is None else found.low_res,
    }

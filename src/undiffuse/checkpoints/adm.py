"""Files of guided-diffusion and improved-diffusion: U-Nets, upsamplers and classifiers, by the shapes of their tensors.

A plain table of tensors; nothing in it says how attention is split into heads, in which order q, k and v lie, or which
schedule the timesteps are of (github.com/openai/guided-diffusion, github.com/openai/improved-diffusion).
"""

from collections.abc import Mapping
from typing import Any

from undiffuse.checkpoints.adm_sizes import classifier_sizes, summary, unet_sizes
from undiffuse.checkpoints.classifier import NoisyClassifierConfig
from undiffuse.checkpoints.facts import Facts, Given
from undiffuse.checkpoints.found import Found, alike, of_known, square, timesteps, written
from undiffuse.checkpoints.known import Known
from undiffuse.checkpoints.native import PriorConfig
from undiffuse.checkpoints.weights import Weights, shape_of

FORM = "ADM (guided-diffusion, improved-diffusion)"
COLOURS = 3  # of pictures, where the channels in and out could mean several things


class ADMFormat:
    """The state dict of a UNetModel, SuperResModel or EncoderUNetModel."""

    def matches(self, weights: Weights) -> bool:
        return {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight"} <= {
            *weights.tensors
        }

    def describe(self, weights: Weights, given: Given) -> Found:
        if "output_blocks.0.0.in_layers.0.weight" in weights.tensors:
            return _unet(weights, given)
        return _classifier(weights, given)


def _unet(weights: Weights, given: Given) -> Found:
    sizes, possible = _channels({"name": "adm", **unet_sizes(weights.shapes)}, weights, given)
    channels, classes = sizes["out_channels"], sizes["num_classes"]
    files = alike("adm", sizes, weights.path)
    facts = Facts(given, files, weights.path)
    facts.show("network", summary(sizes))
    if len(possible) > 1:
        facts.take("channels", lambda _: channels, channels)
    else:
        facts.show("channels", channels)
    facts.show("answers with", "noise and its variance" if sizes["learned_variance"] else "noise alone")
    null = classes is not None and bool(facts.take("null_class", default=None))
    facts.show("classes", "none" if classes is None else classes - null)
    classes = None if classes is None else classes - null
    network = {**sizes, **_attention(facts, sizes), "num_classes": classes, "null_class": null}
    told, size = {**_condition(facts, sizes), **timesteps(facts)}, square(facts)
    facts.check_all_used()
    config = None
    if not facts.missing:
        held = {"channels": channels, "size": size, "num_classes": classes, "null_class": null}
        config = PriorConfig(network=written(network), **held, **told)
    return Found(
        FORM, config, weights.tensors, tuple(facts.lines), tuple(facts.missing), of_known(files, weights.path)
    )


def _classifier(weights: Weights, given: Given) -> Found:
    sizes, files, depths = _depth(weights, given)
    facts = Facts(given, files, weights.path)
    facts.show("network", summary(sizes))
    facts.show("classes", sizes["num_classes"])
    if len(depths) > 1:
        facts.take("blocks", lambda file: file.network["blocks"])
    if "size" in sizes:
        facts.show("size", (sizes["size"], sizes["size"]))
        size: tuple[int, int] | None = (sizes["size"], sizes["size"])
    else:
        size = square(facts, required=True)
    network, told = {**sizes, **_attention(facts, sizes)}, timesteps(facts, prediction=False)
    facts.check_all_used()
    config, form = None, f"{FORM}, classifier"
    if not facts.missing and size is not None:
        config = NoisyClassifierConfig(
            network=written({**network, "size": size[0]}),
            channels=sizes["in_channels"],
            size=size,
            num_classes=sizes["num_classes"],
            **told,
        )
    return Found(
        form, config, weights.tensors, tuple(facts.lines), tuple(facts.missing), of_known(files, weights.path)
    )


def _depth(weights: Weights, given: Given) -> tuple[dict[str, Any], list[Known], list[int]]:
    """A classifier's sizes, the known files of these, and the numbers of blocks a level that the shapes allow."""
    choices = [{"name": "classifier", **sizes} for sizes in classifier_sizes(weights.shapes)]
    depths = [sizes["blocks"] for sizes in choices]
    if given.blocks is not None:
        choices = [sizes for sizes in choices if sizes["blocks"] == given.blocks]
        if not choices:
            raise ValueError(f"blocks={given.blocks}; expected {' or '.join(map(str, depths))}")
    held = [alike("adm", sizes, weights.path) for sizes in choices]
    best = next((number for number, files in enumerate(held) if files), 0)
    return choices[best], [file for files in held for file in files], depths


def _channels(sizes: dict[str, Any], weights: Weights, given: Given) -> tuple[dict[str, Any], list[int]]:
    """The sizes with those that say how many channels a picture has, and all that it could have.

    The network sees C channels, or 2 C with a condition, and answers with C, or 2 C with a variance.
    """
    seen, answers = sizes["in_channels"], shape_of(weights.shapes, "out.2.weight", 4)[0]
    possible = [c for c in {seen, seen // 2} if c and seen in (c, 2 * c) and answers in (c, 2 * c)]
    choices = [c for c in possible if given.channels in (None, c)]
    if not choices:
        asked = "" if given.channels is None else f" for pictures of {given.channels}"
        raise ValueError(f"{seen} channels in and {answers} out{asked}; expected C or 2 C in and out")
    made = {c: {**sizes, "out_channels": c, "learned_variance": answers == 2 * c} for c in choices}
    usual = sorted(choices, key=lambda c: (not alike("adm", made[c], weights.path), c != COLOURS, -c))
    return made[usual[0]], possible


def _condition(facts: Facts, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What an upsampler is conditioned on, if it is one."""
    channels = sizes["out_channels"]
    if sizes["in_channels"] == channels:
        return {}
    facts.show("conditioned on", f"a picture of {channels} channels, enlarged bilinearly (an upsampler)")
    return {"low_res": facts.take("low_res", lambda file: file.low_res), "low_res_as": "bilinear"}


def _attention(facts: Facts, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """How attention is split into heads: no shape depends on it."""
    own = {"heads": facts.given.heads, "head_channels": facts.given.head_channels}
    found: dict[str, Any] = {}
    if any(value is not None for value in own.values()):
        if None not in own.values():
            raise ValueError("heads and head_channels are both given; give one of them")
        for name in own:
            found[name] = facts.take(name, default=None)
    else:
        each = facts.take("head_channels", lambda file: file.network.get("head_channels"), None)
        found = {"head_channels": each}
        if each is None:
            found["heads"] = facts.take("heads", lambda file: file.network.get("heads"))
    order = facts.take(
        "new_attention_order", lambda file: bool(file.network.get("new_attention_order", False)), False
    )
    found |= {"new_attention_order": order, "groups": facts.take("groups", lambda _: 32, 32)}
    if sizes["name"] == "adm":
        found["heads_up"] = facts.take("heads_up", default=None)
    return {name: value for name, value in found.items() if value is not None}

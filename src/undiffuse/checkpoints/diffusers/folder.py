"""Folders of diffusers: a pipeline (model_index.json, unet/, scheduler/), or a model alone: config.json and weights.

diffusers itself is not needed for either direction: a folder is JSON and tensors. Nothing in it is executed.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import torch

from undiffuse.checkpoints.diffusers.keys import to_ours, to_theirs
from undiffuse.checkpoints.diffusers.scheduler import schedule_of, scheduler_of
from undiffuse.checkpoints.diffusers.unet import network_of, unet_of
from undiffuse.checkpoints.facts import Facts, Given
from undiffuse.checkpoints.found import Found, timesteps
from undiffuse.checkpoints.native import Checkpoint, PriorConfig
from undiffuse.checkpoints.weights import Weights
from undiffuse.config import explain
from undiffuse.core.tensors import write_tensors
from undiffuse.networks import ADM, DDPM

LONGEST = 2**20  # bytes of a JSON file
WEIGHTS = "diffusion_pytorch_model"
NAMES = (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin", f"{WEIGHTS}.fp16.safetensors", f"{WEIGHTS}.fp16.bin")
UNET, SCHEDULER = "config.json", "scheduler_config.json"


def weights_of(path: Path) -> Path | None:
    """The file of weights in a folder of diffusers; None for another folder. ValueError for one that holds no prior."""
    if not any((path / name).is_file() for name in ("model_index.json", f"unet/{UNET}", UNET)):
        return None
    inside = path / "unet" if (path / "unet" / UNET).is_file() else path
    if not (inside / UNET).is_file():
        raise ValueError(
            f"'{path}' has no unet/{UNET}; of diffusers' pipelines those of a UNet2DModel are priors"
        )
    found = next((inside / name for name in NAMES if (inside / name).is_file()), None)
    if found is None:
        parts = any(inside.glob(f"{WEIGHTS}*.index.json"))
        hint = (
            "they are in several files: save it again with max_shard_size='100GB'"
            if parts
            else "get them too"
        )
        raise ValueError(f"'{inside}' has no weights, {NAMES[0]} or {NAMES[1]}; {hint}")
    return found


def with_settings(weights: Weights) -> Weights:
    """With what the JSON files beside a file of weights say as `meta`; as it is where there are none."""
    inside = weights.path.parent
    if weights.path.name not in NAMES or not (inside / UNET).is_file():
        return weights
    around = (inside, inside.parent / "scheduler", inside.parent)
    scheduler = next((p / SCHEDULER for p in around if (p / SCHEDULER).is_file()), None)
    try:
        told = {UNET: _json(inside / UNET, "UNet2DModel")}
        if scheduler is not None:
            told[SCHEDULER] = _json(scheduler, None)
    except ValueError as error:
        raise ValueError(f"'{inside}': {error}") from None
    return replace(weights, meta={**told, "facts": weights.meta.get("facts")})


class DiffusersFormat:
    """UNet2DModel with the scheduler that it was trained with."""

    def matches(self, weights: Weights) -> bool:
        """Whether it is of `with_settings`."""
        return isinstance(weights.meta.get(UNET), dict)

    def describe(self, weights: Weights, given: Given) -> Found:
        """ValueError for what our networks cannot be, by the name of the setting."""
        told, facts = weights.meta, Facts(given, (), weights.path)
        network = network_of(told[UNET])
        fields = schedule_of(told[SCHEDULER]) if SCHEDULER in told else timesteps(facts)
        rows, null = network["num_classes"], None
        if rows is not None:
            null = bool(facts.take("null_class", default=None))
            network |= {"num_classes": rows - null, "null_class": null}
        facts.check_all_used()
        facts.show("network", _in_words(network))
        facts.show("classes", "none" if rows is None else network["num_classes"])
        for name in ("prediction", "schedule", "timesteps", "beta_start", "beta_end"):
            if SCHEDULER in told and fields.get(name) is not None:
                facts.show(name, fields[name])
        form, kept = "UNet2DModel of diffusers", _kept(told.get("facts"))
        if facts.missing:
            return Found(form, None, {}, tuple(facts.lines), tuple(facts.missing), kept)
        size = told[UNET].get("sample_size")
        try:
            config = PriorConfig(
                network=network,
                channels=network["in_channels"],
                size=(size, size) if isinstance(size, int) else size,
                num_classes=network["num_classes"],
                null_class=bool(null),
                **fields,
            )
        except pydantic.ValidationError as error:
            raise ValueError(explain(error, "the prior", PriorConfig)) from None
        config.bounded(len(weights.tensors))
        with torch.device("meta"):
            net = config.build_network()
        assert isinstance(net, DDPM | ADM)
        return Found(form, config, to_ours(net, weights.tensors), tuple(facts.lines), facts=kept)


def export(checkpoint: Checkpoint, folder: Path) -> None:
    """A folder that DDPMPipeline.from_pretrained runs; a network with classes only UNet2DModel, given class_labels.

    The folder appears whole or not at all. ValueError if it holds something already, or if UNet2DModel cannot be this
    network, with the reason.
    """
    config, net = checkpoint.config, checkpoint.prior.net
    if not isinstance(net, DDPM | ADM):
        raise ValueError(
            f"the network '{config.network.get('name')}' is none that diffusers has; ddpm and adm can be exported"
        )
    if config.low_res is not None:
        raise ValueError("a prior conditioned on a picture of low resolution; DDPMPipeline has no such input")
    unet = unet_of(net, config.size)
    scheduler = scheduler_of(config, net.config.learned_variance)
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"'{folder}' exists and is not empty; choose another folder")
    temporary = folder.parent / f".undiffuse-{secrets.token_hex(8)}.tmp"
    try:
        for part, name, content in (
            ("", "model_index.json", index),
            ("unet", "config.json", unet),
            ("scheduler", "scheduler_config.json", scheduler),
        ):
            (temporary / part).mkdir(parents=True, exist_ok=True)
            (temporary / part / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        meta = {"format": "pt", "facts": json.dumps(dict(checkpoint.facts))}
        write_tensors(temporary / "unet" / NAMES[0], to_theirs(net), meta)
        os.replace(temporary, folder)
    except OSError as error:
        raise ValueError(f"'{folder}' cannot be written ({error}); choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _in_words(network: Mapping[str, Any]) -> str:
    times = " ".join(f"{multiplier:g}" for multiplier in network["multipliers"])
    levels = " ".join(map(str, network["attention"])) or "none"
    return (
        f"{network['name']}, width {network['width']} times {times}, {network['blocks']} blocks a level, attention at "
        f"levels {levels} of 0 to {len(network['multipliers']) - 1}, {network['in_channels']} channels"
    )


def _kept(text: Any) -> dict[str, Any]:
    """The facts that `export` wrote beside the weights."""
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path, kind: str | None) -> dict[str, Any]:
    """What a JSON file says. ValueError unless it is an object, of this class if one is asked for."""
    if path.stat().st_size > LONGEST:
        raise ValueError(f"{path.name} has more than {LONGEST} bytes")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is no JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no object")
    if kind is not None and found.get("_class_name", kind) != kind:
        raise ValueError(
            f"{path.name} is of a {str(found['_class_name'])[:60]}; only a {kind}, which works on pixels, is a prior"
        )
    return found

"""Which prior on which pictures: a config of ours, or one of DDRM's authors as it is."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from undiffuse.config import Options, explain

LONGEST = 2**20  # characters of a file
Fit = Literal["stretch", "centre", "shorter", "square", "celeba"]


class Data(Options):
    """Pictures below the folder of the experiments, and how they are brought to the prior's size.

    stretch: to a square. centre: guided-diffusion's crop. shorter: the shorter side to the size, then a centre crop.
    square: the middle square, then to the size. celeba: 128 x 128 around the face, then to the size.
    """

    layout: Literal["folder", "list", "lsun", "celeba", "celeba_hq", "imagenet"]
    path: str
    list: str | None = None  # names, a line each, with labels or without
    fit: Fit
    dequantise: bool = False  # noise below the last bit


class Setup(Options):
    """What a config file of `undiffuse ddrm` holds."""

    prior: str  # a published name, or anything that --prior takes
    classifier: str | None = None
    classifier_scale: Annotated[float, pydantic.Field(ge=0)] = 1.0
    size: Annotated[int, pydantic.Field(ge=1, le=4096)]
    batch: Annotated[int, pydantic.Field(ge=1)] = 1
    data: Data


def find_setup(name: str) -> tuple[Setup, str]:
    """The config of that name and where it was: as DDRM looks for it, in configs/, else a path, else ours."""
    for path in (Path("configs") / name, Path(name)):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                return read_setup(file.read(LONGEST + 1), str(path)), str(path)
    ours = files("undiffuse.assets") / "published"
    known = sorted(
        entry.name.removesuffix(".yaml") for entry in ours.iterdir() if entry.name.endswith(".yaml")
    )
    stem = name.removesuffix(".yml").removesuffix(".yaml")
    if stem not in known:
        raise ValueError(f"no config '{name}', here or in configs/; of ours there are {', '.join(known)}")
    return read_setup((ours / f"{stem}.yaml").read_text(encoding="utf-8"), name), f"{stem}, which comes along"


def read_setup(text: str, name: str) -> Setup:
    """From YAML of either kind. ValueError, in one line, for what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"'{name}' is longer than {LONGEST} characters; expected a config of a few lines")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"'{name}' is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"'{name}' holds no settings; expected a config such as imagenet_256.yml")
    try:
        return _authors(found) if {"data", "model", "diffusion"} <= found.keys() else Setup(**found)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"'{name}'", Setup)) from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"'{name}': {error} is missing, or no setting") from None
    except ValueError as error:
        raise ValueError(f"'{name}': {error}") from None


def _authors(found: Mapping[str, Any]) -> Setup:
    """A config of DDRM's authors: sections data, model, diffusion, sampling; the rest is for training.

    The network's sizes are read from the file of weights, so that `model` decides its name and no more.
    """
    data, diffusion = found["data"], found["diffusion"]
    betas = diffusion["beta_schedule"], diffusion["beta_start"], diffusion["beta_end"]
    if betas != ("linear", 1e-4, 0.02) or diffusion["num_diffusion_timesteps"] != 1000:
        raise ValueError(
            f"diffusion of {betas}; expected DDPM's, linear from 0.0001 to 0.02 in 1000 timesteps"
        )
    if data.get("logit_transform") or data.get("gaussian_dequantization") or not data.get("rescaled", True):
        raise ValueError("pictures in other units than [-1, 1], which no published prior of DDRM takes")
    if data.get("channels", 3) != 3:
        raise ValueError(f"channels: {data['channels']}; expected 3")
    size, guided = data["image_size"], bool(found["model"].get("class_cond"))
    given: dict[str, Any] = {"prior": _prior(found["model"]["type"], data, guided), "size": size}
    if guided:
        given["classifier"] = f"{size}x{size}_classifier"
        given["classifier_scale"] = found["classifier"]["classifier_scale"]
    batch = found.get("sampling", {}).get("batch_size", 1)
    return Setup(**given, batch=batch, data=_data(data))


def _prior(kind: str, data: Mapping[str, Any], guided: bool) -> str:
    size, dataset = data["image_size"], data["dataset"]
    if kind == "openai":
        return f"{size}x{size}_diffusion" if guided else "256x256_diffusion_uncond"
    if kind != "simple":
        raise ValueError(f"model type '{kind}'; expected simple or openai")
    if dataset == "LSUN":
        return f"ema_lsun_{str(data['category']).removesuffix('_outdoor')}"
    names = {"CelebA_HQ": "celeba_hq", "CIFAR10": "ema_cifar10"}
    if dataset not in names:
        raise ValueError(f"no published network of type simple for {dataset}; expected LSUN or CelebA_HQ")
    return names[dataset]


def _data(data: Mapping[str, Any]) -> Data:
    """Folders and crops as in datasets/__init__.py of the authors."""
    strange, dequantise = bool(data.get("out_of_dist")), bool(data.get("uniform_dequantization"))
    match data["dataset"]:
        case "LSUN":
            category = data["category"]
            if strange:
                given = ("folder", f"datasets/ood_{category}", "centre")
            else:
                given = ("lsun", f"datasets/lsun/{category}_val_lmdb", "shorter")
        case "CelebA_HQ" | "FFHQ":
            kind, name = ("folder", "ood_celeba") if strange else ("celeba_hq", "celeba_hq")
            given = (kind, f"datasets/{name}", "stretch")
        case "CELEBA":
            given = ("celeba", "datasets/celeba", "celeba")
        case "ImageNet" if data.get("subset_1k"):
            given = ("list", "datasets/imagenet/imagenet", "square")
        case "ImageNet":
            given = (
                ("folder", "datasets/ood", "centre")
                if strange
                else ("imagenet", "datasets/imagenet", "centre")
            )
        case other:
            raise ValueError(f"dataset '{other}'; expected LSUN, CelebA_HQ, FFHQ, CELEBA or ImageNet")
    layout, path, fit = given
    names = "imagenet_val_1k.txt" if layout == "list" else None
    return Data(layout=layout, path=path, list=names, fit=fit, dequantise=dequantise)  # type: ignore[arg-type]

"""What `undiffuse restore` is told."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.config.said import (
    AtOnce,
    Count,
    Device,
    Level,
    OfNetwork,
    Plugins,
    PriorOptions,
    Said,
    Scale,
    Share,
    Words,
)
from undiffuse.options import Options

Kind = Literal[
    "restored", "degraded", "original", "deviation", "q05", "q50", "q95", "draws", "y", "sheet", "record"
]  # of files
DRAWS = 8  # of a posterior
TOGETHER = ("noise", "goal", "draws")  # settings whose defaults depend on what else is said


class RestoreConfig(Options):
    """Everything that decides what `undiffuse restore` does to a picture, or to each picture of a folder."""

    image: Annotated[
        Path, Said("Picture (PNG, JPEG, WebP, TIFF or .npy), or a folder of them.", argument=True)
    ]
    degrade: Annotated[str, Said("Degradation, name:key=value,...; see `undiffuse degradations`.")]
    out: Annotated[Path, Said("Folder for the results.")] = Path("out")
    measured: Annotated[bool, Said("The picture is the bad one; no clean one is needed.")] = False
    noise: Annotated[
        Level | Literal["auto"] | None,
        Said("Noise level, white - black = 1; or auto (default with --measured)."),
    ] = None
    blind: Annotated[
        bool,
        Said("Estimate the blur: blur of any kind, or blur:gaussian, :disk, :motion."),
    ] = False
    reference: Annotated[
        Path | None, Said("Clean picture (or folder of them) to compare with, for --measured.")
    ] = None
    size: Annotated[str | None, Said("HxW or CxHxW of the clean picture, for --measured.")] = None
    prior: Annotated[
        str,
        Said(
            "A name of `undiffuse priors`, a file of weights, or a run's folder; auto: photo, photo-fast "
            "where it is as good, photo-gaussian for pictures that have not 3 channels."
        ),
    ] = "auto"
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"
    label: Annotated[str | None, Said("Class of a prior with classes: name or number.")] = None
    guidance: Annotated[Scale, Said("Towards that class; 1 = the conditional prior.")] = 1.0
    classifier: Annotated[
        str | None,
        Said("Classifier of noisy pictures that guides towards the class: file or published name."),
    ] = None
    classifier_scale: Annotated[
        float, pydantic.Field(ge=0, le=1000), Said("How strongly; 1 = Bayes' rule.")
    ] = 1.0
    goal: Annotated[  # what auto is to choose for
        Literal["psnr", "perceptual", "posterior"],
        Said(
            "psnr: closest to the truth; perceptual: natural detail; posterior: draws and an error bar "
            "[psnr, or posterior with --draws].",
            always=True,
        ),
    ] = "psnr"
    preset: Annotated[Path | None, Said("File of presets, as `undiffuse tune` writes.")] = None
    algorithm: Annotated[
        str, Said("Algorithm, name:key=value,...; see `undiffuse algorithms`; auto: by the goal.")
    ] = "auto"
    steps: Annotated[Count | None, Said("Noise levels [20; 1 where the posterior mean is closed].")] = None
    eta: Annotated[Share | None, Said("The algorithm's eta.")] = None
    eta_b: Annotated[Share | None, Said("DDRM's eta_b.")] = None
    draws: Annotated[
        int,
        pydantic.Field(ge=1, le=10_000),
        Said(
            "Posterior draws; above 1: mean, deviation and quantiles [1; 8 for --goal posterior].",
            always=True,
        ),
    ] = 1
    seed: Annotated[int, Said("Same seed and file name, same pixels.")] = 0
    window: Annotated[
        Annotated[int, pydantic.Field(ge=2)] | None,
        Said("Side of the windows the prior sees [by its kind and the picture's size]."),
    ] = None
    lpips: Annotated[str | None, Said("Weights of LPIPS: AlexNet's .pth and the heads', FILE,FILE.")] = None
    save: Annotated[
        Annotated[tuple[Kind, ...], pydantic.Field(min_length=1)] | None,
        Words,
        Said(
            "Files to write, such as restored,deviation,draws [all but draws; of a folder the answers only]."
        ),
    ] = None
    batch: Annotated[AtOnce, Said("Draws and pictures at once, or auto.")] = "auto"
    fleet: Annotated[str | None, Said("Of a folder: the address of a Ray cluster, or local.")] = None
    workers: Annotated[Count | None, Said("Of the fleet [one a GPU, or one a core].")] = None
    device: Device = "auto"
    plugins: Plugins = ()  # that are loaded; workers load them, too

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_what_else_is_said(cls, given: Any) -> Any:
        """The noise of a measured picture is estimated; several draws are of a posterior, and a posterior has eight."""
        if not isinstance(given, dict):
            return given
        told = {name: value for name, value in given.items() if value is not None or name not in TOGETHER}
        if told.get("measured"):
            told.setdefault("noise", "auto")
        several = told.get("draws") not in (None, 1, "1")
        told.setdefault("goal", "posterior" if several else "psnr")
        told.setdefault("draws", DRAWS if told["goal"] == "posterior" else 1)
        return told

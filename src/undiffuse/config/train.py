"""What `undiffuse train` is told: one YAML file, checked to the last key."""

import copy
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.options import Options, explain

LARGEST = 2**20  # bytes of a configuration

Positive = Annotated[int, pydantic.Field(ge=1, le=10**12)]
Share = Annotated[float, pydantic.Field(ge=0, lt=1)]


class DataConfig(Options):
    """Which images, and how they come to the network."""

    source: str  # a dataset with its options: folder:keep_mb=600
    path: str
    exclude: tuple[str, ...] = ()  # patterns of names, such as gb82__*
    licence: str = "not stated"  # of the data: goes into the header of the weights
    size: Annotated[int, pydantic.Field(ge=1, le=2**14)]
    window: Positive | None = None
    shorter: Positive | None = None
    crop: Literal["none", "centre", "random", "textured"] = "centre"
    tries: Positive = 4
    flip: bool = False
    dequantise: bool = False
    validation: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.05  # share held out, by a hash of each image
    split_by: Literal["content", "name"] = "content"
    workers: Annotated[int, pydantic.Field(ge=0, le=256)] = 2


class ConditioningConfig(Options):
    """What the network is told beside the noise level."""

    classes: Positive | None = None
    dropout: Share = 0.1  # of images whose class is hidden, for classifier-free guidance
    low_res: int | str | None = None  # a factor, or a degradation such as sr_bicubic4
    augmentation: Annotated[float, pydantic.Field(ge=0)] = 0.0  # largest noise on it, in the scale of [-1, 1]

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "ConditioningConfig":
        if self.augmentation and self.low_res is None:
            raise ValueError("augmentation is noise on a low_res picture; give low_res, or leave it out")
        return self


class ObjectiveConfig(Options):
    """What is learned: `label` trains the classifier of noisy images, the others denoise."""

    prediction: Literal["eps", "v", "x0", "edm", "label"]
    weight: Literal["eps", "v", "x0", "edm", "min_snr", "truncated_snr"] | None = (
        None  # None: the prediction's own
    )
    sigma_data: Annotated[float, pydantic.Field(gt=0)] = 0.5  # of edm
    schedule: Literal["linear", "cosine", "cos6", "quad", "sigmoid"] | None = None  # of eps, v, x0 and label
    timesteps: Annotated[int, pydantic.Field(ge=2, le=100_000)] = 1000
    log_sigma: tuple[float, float] | None = (
        None  # mean and deviation of ln sigma; None: the schedule's levels
    )
    learned_variance: bool = False
    bound_weight: Annotated[  # of the variational bound, for learned_variance
        float,
        pydantic.Field(ge=0),
    ] = 1e-3

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "ObjectiveConfig":
        if self.prediction == "edm" and self.schedule is not None:
            raise ValueError("prediction edm takes no schedule; expected log_sigma; leave the schedule out")
        if self.prediction != "edm" and self.schedule is None:
            raise ValueError(
                f"prediction {self.prediction} needs a schedule; write schedule: linear or cosine"
            )
        if self.prediction == "label" and self.weight is not None:
            raise ValueError("prediction label takes no weight; leave it out")
        if self.learned_variance and self.prediction in ("edm", "label"):
            raise ValueError(
                f"learned_variance with prediction {self.prediction}; expected eps, v or x0 with a schedule"
            )
        return self


class OptimizerConfig(Options):
    """How weights move."""

    name: Literal["adam", "adamw", "muon"] = "adamw"
    rate: Annotated[float, pydantic.Field(gt=0)] = 1e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    warmup: Annotated[int, pydantic.Field(ge=0)] = 0  # steps
    decay: Literal["constant", "linear", "cosine"] = "constant"
    clip: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=True)] = 1.0  # .inf: never


class RunConfig(Options):
    """How long, how, and what is kept."""

    steps: Positive
    batch: Annotated[int, pydantic.Field(ge=1, le=2**20)]
    part: Positive | None = None  # images at once, if the batch does not fit in memory
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0
    ema: tuple[Annotated[float, pydantic.Field(gt=0)], ...] = (
        500_000.0,
    )  # half-lives in images; the first samples
    power_ema: tuple[Annotated[float, pydantic.Field(gt=0, lt=0.28)], ...] = ()  # relative widths
    start: str | None = None  # weights to start from: a file, or a prior that comes with the package
    start_options: str | None = None  # what a file from outside does not tell: key=value,...
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    skip_limit: Positive = 100  # steps in a row without a finite gradient
    log_every: Positive = 50  # steps
    check_every: Positive = 1000  # steps: validation and pictures
    keep_every: Positive | None = None  # steps: weights kept under their own name
    save_minutes: Annotated[float, pydantic.Field(gt=0)] = 5.0  # between states to resume from
    pictures: Annotated[int, pydantic.Field(ge=0, le=1024)] = 16
    validate_images: Positive = 256

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "RunConfig":
        if self.start_options is not None and self.start is None:
            raise ValueError(f"start_options: {self.start_options} is about a file; name it with train.start")
        return self


class PracticeConfig(Options):
    """What a student of the method restore practises."""

    tasks: Annotated[tuple[str, ...], pydantic.Field(min_length=1, max_length=100)]  # degradations
    algorithm: str  # with its options
    calls: Annotated[int, pydantic.Field(ge=1, le=1000)]
    noise: Annotated[float, pydantic.Field(ge=0, le=1)]  # of the data, up to so much in [0, 1] units


class DistilConfig(Options):
    """Whom a student learns from, and how; written by `undiffuse distil`."""

    method: Literal["match", "progressive", "consistency", "restore"]
    teacher: str  # a run, a file of weights, or a prior that comes with the package
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]  # of the teacher's weights
    share: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0  # of the first teacher's parameters
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # of the teacher's answers
    truth: Annotated[  # of match: share of the clean image in the loss
        float,
        pydantic.Field(ge=0, le=1),
    ] = 0.0
    features: Annotated[  # of match: weight of what the layers look at
        float,
        pydantic.Field(ge=0, le=1000),
    ] = 0.0
    sigmas: tuple[Annotated[float, pydantic.Field(gt=0)], ...] | None = (
        None  # levels to step on, without the 0: of progressive the teacher's, of consistency the student's
    )
    tuning: bool = False  # of consistency: from the data alone, not along the teacher's path
    practice: PracticeConfig | None = None  # of restore

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "DistilConfig":
        if (self.sigmas is None) != (self.method in ("match", "restore")):
            raise ValueError(
                f"method {self.method} with sigmas {self.sigmas}; expected them of progressive and consistency"
            )
        if (self.practice is None) != (self.method != "restore"):
            raise ValueError(f"method {self.method}; expected a practice of restore, and of no other")
        if self.method == "progressive" and len(self.sigmas or ()) % 2:
            raise ValueError(f"{len(self.sigmas or ())} levels of the teacher; expected an even number")
        if self.truth and self.method != "match":
            raise ValueError(f"truth {self.truth:g} is of the method match; leave it out")
        if self.features and (self.method != "match" or self.guidance != 1):
            raise ValueError(
                f"features {self.features:g} are of the method match, and without guidance; leave them out"
            )
        if self.tuning and (self.method != "consistency" or self.guidance != 1):
            raise ValueError("tuning is of the method consistency, and without guidance; leave it out")
        return self


class TrainConfig(Options):
    """Everything that decides a training run."""

    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    data: DataConfig
    network: dict[str, Any]  # its name and its sizes; channels, classes and variance are filled in
    conditioning: ConditioningConfig = ConditioningConfig()
    objective: ObjectiveConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    train: RunConfig
    distil: DistilConfig | None = None  # None: from data alone

    @pydantic.model_validator(mode="after")
    def _features(self) -> "TrainConfig":
        if self.distil is not None and self.distil.features and self.train.compile:
            raise ValueError(
                "distil.features with train.compile: compiled layers show nothing; leave out one of them"
            )
        return self


def read_train(path: Path, settings: Iterable[str] = ()) -> TrainConfig:
    """A YAML file, with `section.key=value` settings over it. ValueError in one line for whatever is wrong."""
    return checked_train(read_yaml(path), settings, f"'{path}'")


def checked_train(tree: dict[str, Any], settings: Iterable[str], owner: str) -> TrainConfig:
    """A configuration from its tree, with settings over it; owner: whose it is, for messages."""
    tree = with_settings(tree, settings)
    try:
        return TrainConfig.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, owner, TrainConfig)) from None


def with_settings(tree: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The tree with `section.key=value` settings over it, which are not yet checked."""
    made = copy.deepcopy(dict(tree))
    for setting in settings:
        _set(made, setting)
    return made


def read_yaml(path: Path, sections: str = "data:, network:, train:") -> dict[str, Any]:
    """A mapping from a YAML file: no tags, no aliases, no key twice, at most 1 MiB. sections: what to expect in it."""
    import yaml

    try:
        data = path.read_bytes()
        if len(data) > LARGEST:
            raise ValueError(f"is longer than {LARGEST} bytes; expected a configuration")
        tree = _loaded(data.decode())
    except FileNotFoundError:
        raise ValueError(f"no configuration '{path}'; the ready ones are in configs/train/") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"'{path}': {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"'{path}' holds no mapping; expected {sections}")
    return tree


class Refused(ValueError):
    """What YAML allows, and a configuration does not."""


def _loaded(text: str) -> Any:
    """Plain values from YAML: no tags, no aliases, no key twice."""
    import yaml

    class Strict(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise Refused("holds an alias (*name); write the value out")
            if tag := getattr(self.peek_event(), "tag", None):
                raise Refused(f"holds the tag {tag}; write the value without it")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = Counter(str(self.construct_object(key, deep=True)) for key, _ in node.value)
            twice = sorted(key for key, count in keys.items() if count > 1)
            if twice:
                raise Refused(f"gives {', '.join(twice)} twice; keep one")
            return super().construct_mapping(node, deep)

    return yaml.load(text, Strict)  # a SafeLoader: builds plain values only


def write_yaml(tree: Mapping[str, Any]) -> str:
    """The same as text, keys in their order."""
    import yaml

    return yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True, width=100)


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`section.key: old -> new` for each value that differs."""
    found: list[str] = []
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += changed(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} -> {b}")
    return found


def _set(tree: dict[str, Any], setting: str) -> None:
    import yaml

    name, equals, text = setting.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ValueError(f"--set {setting}; expected section.key=value, such as train.steps=50000")
    try:
        value = _loaded(text)
    except Refused as error:
        raise ValueError(f"--set {setting}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2024-13-45
        raise ValueError(f"--set {setting}: the value cannot be read; quote it") from None
    if keys[0] not in TrainConfig.model_fields:
        near = difflib.get_close_matches(keys[0], TrainConfig.model_fields, n=1)
        hint = f" did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"--set {setting}: no section '{keys[0]}';{hint} choose from {', '.join(TrainConfig.model_fields)}"
        )
    for key in keys[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--set {setting}: '{key}' is no section")
        tree = inner
    tree[keys[-1]] = value

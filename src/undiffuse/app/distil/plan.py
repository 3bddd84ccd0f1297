"""From a DistilConfig to the training runs that it takes, or a refusal in one line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse.app.priors import Opened, levels, open_prior
from undiffuse.app.train.build import FILLED_IN
from undiffuse.app.train.folder import CONFIG, PRIOR
from undiffuse.app.train.students import practised
from undiffuse.checkpoints import PriorConfig
from undiffuse.config import TrainConfig
from undiffuse.config.distil import COST, FIRST, DistilConfig
from undiffuse.config.train import PracticeConfig, checked_train, read_train
from undiffuse.core.grids import from_timesteps
from undiffuse.distil import halvings
from undiffuse.distil.students import parameters, student

LEVELS = (-1.1, 2.0)  # mean and deviation of ln sigma for consistency (Geng et al. 2024)
FOLLOW = ("distil", "network", "train.start")  # of a TrainConfig
HIGHEST = 160.0  # sigma that steps begin at, at most; as of samples


@dataclass(frozen=True, slots=True)
class Stage:
    """One student's training."""

    name: str  # of its folder
    tree: dict[str, Any]  # of its TrainConfig, but for the teacher
    teacher: str  # a stage before this one by its folder, or the teacher that was asked for
    start: str | None  # whose weights it begins with; None: the teacher's, as far as they fit
    network: PriorConfig

    @property
    def parameters(self) -> int:
        return parameters(self.network)

    def config(self, settings: tuple[str, ...]) -> TrainConfig:
        """Its training, once its teacher is there."""
        opened = open_prior(self.teacher)
        tree = {**self.tree, "train": {**self.tree["train"], "start": self.start}}
        tree["distil"] = {**self.tree["distil"], "teacher": self.teacher, "sha256": opened.sha256}
        return checked_train(tree, settings, f"the student {self.name}")


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to learn from, and the students in order."""

    config: DistilConfig
    teacher: Opened
    described: PriorConfig
    base: TrainConfig
    out: Path
    stages: tuple[Stage, ...]


def read(config: DistilConfig) -> Plan:
    """ValueError for a teacher that is no network, without data to learn from, or that cannot be asked for this."""
    opened = open_prior(config.teacher)
    if opened.prior is None or opened.config is None:
        raise ValueError(f"'{config.teacher}' is no network; students learn from a run, or its weights")
    if opened.told or opened.sha256 is None:
        raise ValueError(
            f"'{config.teacher}' is of another package; run `undiffuse priors convert` first, and distil what it writes"
        )
    _check_asked(config, opened.config)
    _check_settings(config.settings)
    base = _base(config)
    out = config.out or Path("runs") / "students" / _name(config.teacher)
    made = Plan(config, opened, opened.config, base, out, ())
    if config.method == "restore":
        practised(_practice(config), _shape(made))
    stages = tuple(_stages(made))
    return Plan(config, opened, opened.config, base, out, stages)


def _check_asked(config: DistilConfig, teacher: PriorConfig) -> None:
    """ValueError for a lesson that this teacher cannot give, said before a student of a size is trained for it."""
    if config.guidance != 1 and not teacher.null_class:
        raise ValueError(
            f"--guidance {config.guidance:g}; '{config.teacher}' knows no images without a class: leave it out"
        )
    if config.method == "restore" and (teacher.num_classes is not None or teacher.low_res is not None):
        raise ValueError(
            f"--method restore; '{config.teacher}' has classes or is conditioned on a picture: choose another"
        )
    if (made_for := teacher.made_for) is None:
        return
    if made_for.guidance != 1 and (config.guidance != 1 or config.tuning):
        asked = "--tuning" if config.tuning else f"--guidance {config.guidance:g}"
        raise ValueError(f"{asked}; the teacher has its guidance built in: leave it out")
    if made_for.sigmas is None:
        return
    own, told = len(made_for.sigmas), f"'{config.teacher}' was made for {made_for}, and knows no other levels"
    if config.method != "progressive" or made_for.sampler != "ddim" or config.sizes:
        raise ValueError(
            f"{told}; let its own teacher teach, or halve its steps of ddim with --method progressive"
        )
    if config.from_steps not in (None, own) or config.grid is not None:
        raise ValueError(f"{told}; leave out --from-steps and --grid")


def _check_settings(settings: tuple[str, ...]) -> None:
    """ValueError for what is not the user's to set: students would not be what they are called."""
    for setting in settings:
        name = setting.partition("=")[0].strip()
        for fixed in FOLLOW:
            if f"{name}.".startswith(f"{fixed}.") or f"{fixed}.".startswith(f"{name}."):
                raise ValueError(
                    f"--set {setting}; {fixed} follows from the teacher and the options of undiffuse distil: "
                    "leave it out"
                )


def _base(config: DistilConfig) -> TrainConfig:
    if config.config is not None:
        return read_train(config.config)
    path = Path(config.teacher) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"'{config.teacher}' is not the folder of a run: nothing says what data to learn on; give a training "
            "configuration, such as --config configs/train/photos128.yaml --set data.path=PHOTOS"
        )
    return read_train(path)


def _name(text: str) -> str:
    path = Path(text)
    return (path.resolve().name if path.is_dir() else path.stem) or "teacher"


def _stages(plan: Plan) -> Iterator[Stage]:
    config, teacher = plan.config, plan.config.teacher
    network, start, prefix = student(plan.described, 1.0), None, ""
    for size in config.sizes:
        network, prefix = student(plan.described, size), f"size_{size:g}"
        first = config.method == "match"
        told = {"method": "match", "share": size, "truth": config.truth}
        told["features"] = config.features
        told["guidance"] = config.guidance if first else 1.0
        yield _stage(plan, prefix, network, told, teacher, None)
        start, prefix = str(plan.out / prefix / PRIOR), f"{prefix}_"
    share = config.sizes[0] if config.sizes else 1.0
    if config.method == "consistency":
        assert config.to_steps is not None
        told = {"method": "consistency", "share": share, "guidance": config.guidance, "tuning": config.tuning}
        told["sigmas"] = _falling(plan, config.to_steps)
        yield _stage(plan, f"{prefix}consistency_{config.to_steps}", network, told, teacher, start)
    if config.method == "restore":
        told = {"method": "restore", "share": share, "practice": _practice(config).model_dump(mode="json")}
        yield _stage(plan, f"{prefix}restore_{config.to_steps}", network, told, teacher, start)
    if config.method == "progressive":
        yield from _halved(plan, network, share, prefix, start)


def _halved(
    plan: Plan, network: PriorConfig, share: float, prefix: str, start: str | None
) -> Iterator[Stage]:
    """A stage for each halving; each but the first learns from the one before it, and begins as a copy of it."""
    config, teacher, guidance = plan.config, plan.config.teacher, plan.config.guidance
    assert config.to_steps is not None
    made_for = plan.described.made_for
    if made_for is not None and made_for.sigmas is not None:
        sigmas = list(made_for.sigmas)
    else:
        sigmas = _grid(plan, config.from_steps or _first(config.to_steps))
    for number, count in enumerate(halvings(len(sigmas), config.to_steps)[1:]):
        told = {"method": "progressive", "share": share, "sigmas": sigmas, "guidance": guidance}
        name = f"{prefix}progressive_{count}"
        yield _stage(plan, name, network, told, teacher, start if number == 0 else None)
        teacher, sigmas, guidance = str(plan.out / name / PRIOR), sigmas[::2], 1.0


def _practice(config: DistilConfig) -> PracticeConfig:
    assert config.to_steps is not None
    return PracticeConfig(
        tasks=config.tasks, algorithm=config.algorithm, calls=config.to_steps, noise=config.noise
    )


def _first(last: int) -> int:
    steps = 2 * last
    while steps < FIRST:
        steps *= 2
    return steps


def _grid(plan: Plan, count: int) -> list[float]:
    """The teacher's levels above 0, falling."""
    timed = plan.described.schedule is not None and plan.config.grid != "karras"
    if plan.config.grid == "timesteps" and not timed:
        raise ValueError(f"--grid timesteps; '{plan.config.teacher}' knows no timesteps: use karras")
    if timed:
        known = plan.described.discrete().sigmas
        known = known[known <= HIGHEST]
        if count > len(known):
            top = f"{len(known)} levels up to sigma {HIGHEST:g}"
            raise ValueError(
                f"{count} steps; '{plan.config.teacher}' knows {top}: give fewer with --from-steps, or --grid karras"
            )
        return from_timesteps(known, count, "trailing")[:-1].tolist()
    return levels(plan.teacher, _shape(plan), count, HIGHEST)[:-1].tolist()


def _falling(plan: Plan, count: int) -> list[float]:
    """Levels of few steps of a consistency model: those of Karras et al., without their lowest."""
    return levels(plan.teacher, _shape(plan), count + 1, HIGHEST)[:count].tolist()


def _shape(plan: Plan) -> tuple[int, int, int]:
    side = plan.base.data.size
    return plan.described.channels, side, side


def _stage(
    plan: Plan, name: str, network: PriorConfig, told: dict[str, Any], teacher: str, start: str | None
) -> Stage:
    base = plan.base.model_dump(mode="json")
    method = told["method"]
    steps = plan.config.steps or max(1, round(COST[method] * plan.base.train.steps))
    objective = {**base["objective"], "learned_variance": False}
    if method == "progressive":
        objective["weight"] = "truncated_snr"
    if method == "consistency":
        objective |= {"weight": None, "log_sigma": LEVELS}
    run = {**base["train"], "steps": steps}
    for often in ("check_every", "log_every"):
        run[often] = min(run[often], steps)
    sizes = {key: value for key, value in network.network.items() if key not in FILLED_IN}
    if method != "consistency" and network.network_config().dropout:
        sizes["dropout"] = 0.0  # a function of x is learned; consistency keeps it, as its authors do
    tree = {**base, "name": f"{base['name']}_{name}"[:100], "network": sizes, "objective": objective}
    return Stage(name, {**tree, "train": run, "distil": told}, teacher, start, network)

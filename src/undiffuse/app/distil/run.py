"""Train the students one after the other; stop when asked, and go on as if nothing had been."""

import os
from collections.abc import Iterator

from undiffuse.app import outputs
from undiffuse.app.distil.plan import Plan, Stage, read
from undiffuse.app.distil.table import STUDENTS, Row, rows, write
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.train import run as training
from undiffuse.app.train.folder import CONFIG
from undiffuse.config.distil import DistilConfig
from undiffuse.config.train import read_yaml, with_settings
from undiffuse.distil.students import parameters


def run(config: DistilConfig, *, resume: bool = False, dry: bool = False) -> Iterator[Event]:
    """Each student is a run folder like any other, in one folder with students.csv. The result: rows of the table.

    ValueError for bad input, before the first is trained. Asked to stop, the student of the moment saves, and
    KeyboardInterrupt is raised; `resume` passes over those that are ready. Of several processes only the first speaks.
    """
    plan, main = read(config), os.environ.get("RANK", "0") == "0"
    whole = parameters(plan.described)
    if main:
        yield Note(f"{plan.teacher}, {whole:,} parameters, teaches {len(plan.stages)}")
        yield from (Note(told(stage, whole, config.settings, config.guidance)) for stage in plan.stages)
    _check(plan, resume)
    if dry:
        yield from _tried(plan)
        return
    for number, stage in enumerate(plan.stages):
        folder = plan.out / stage.name
        if main:
            yield Note(f"student {number + 1} of {len(plan.stages)}: {stage.name}")
        asked = stage.config(config.settings)
        again = resume and (folder / CONFIG).exists()
        for event in training(asked, folder, resume=again, device=config.device):
            if not isinstance(event, Done):
                yield event
    if main:
        found: list[Row] = rows(plan)
        path = write(plan.out, found)
        if path.name != STUDENTS:
            yield Note(f"{STUDENTS} there is of other held-out images or another teacher, and stays as it is")
        yield Saved(path)
        yield Done(found)


def told(stage: Stage, whole: int, settings: tuple[str, ...] = (), guidance: float = 1.0) -> str:
    """A student in a line: what it is, and what it learns."""
    lesson, network = stage.tree["distil"], stage.network.network
    sizes = ", ".join(
        f"{key} {network[key]}" for key in ("width", "widths", "multipliers", "blocks") if key in network
    )
    line = f"{stage.name}: {stage.parameters:,} parameters, {stage.parameters / whole:.3g} of the teacher's ({sizes})"
    if lesson["method"] == "progressive":
        count = len(lesson["sigmas"])
        line += f", {count} steps of DDIM in {count // 2}"
    if lesson["method"] == "consistency":
        line += f", {len(lesson['sigmas'])} steps from sigma {lesson['sigmas'][0]:.4g}"
    if lesson["method"] == "restore":
        practice = lesson["practice"]
        line += f", {', '.join(practice['tasks'])} in {practice['calls']} calls of {practice['algorithm']}"
    built_in = "" if guidance == 1 else f", guidance {guidance:g} built in"
    return f"{line}{built_in}; {with_settings(stage.tree, settings)['train']['steps']} training steps"


def _check(plan: Plan, resume: bool) -> None:
    """Nothing is begun over what is there, or on settings that do not go together."""
    held = [stage.name for stage in plan.stages if (plan.out / stage.name / CONFIG).exists()]
    if held and not resume:
        raise ValueError(
            f"'{plan.out}' already holds {', '.join(held[:5])}; add --resume to go on, or choose another with --out"
        )
    _check_chain(plan)
    outputs.check_writable(plan.out)
    plan.stages[0].config(plan.config.settings)
    if plan.config.method == "consistency":
        config = plan.stages[-1].config(plan.config.settings)
        if config.objective.prediction == "x0":
            raise ValueError(
                f"'{plan.config.teacher}' predicts x0, and so would a student whose answer at sigma = 0 has to be "
                "the picture itself; add --set objective.prediction=v"
            )


def _check_chain(plan: Plan) -> None:
    """ValueError where a student that is there learned from one that would be another now."""
    there = [stage for stage in plan.stages if (plan.out / stage.name / CONFIG).exists()]
    if not there or plan.config.method == "match":
        return  # students of a size learn from the teacher, each for itself
    last = there[-1].name
    for stage in plan.stages[: plan.stages.index(there[-1])]:
        if stage not in there:
            raise ValueError(
                f"'{plan.out}' holds {last} and not {stage.name}, which comes before; give the --from-steps that it "
                "was made with, or choose another folder with --out"
            )
        stored = read_yaml(plan.out / stage.name / CONFIG)
        before, now = (
            tree["train"]["steps"] for tree in (stored, with_settings(stage.tree, plan.config.settings))
        )
        if before != now:
            raise ValueError(
                f"{stage.name} in '{plan.out}' has {before} training steps, and {last} learned from it; it cannot go "
                f"on to {now}: choose another folder with --out"
            )
        if stored["distil"].get("sigmas") != stage.tree["distil"].get("sigmas"):
            raise ValueError(
                f"{stage.name} in '{plan.out}' was halved from other levels; give the --from-steps and --grid that it "
                "was made with, or choose another folder with --out"
            )


def _tried(plan: Plan) -> Iterator[Event]:
    """A few steps of each student that learns from the teacher itself."""
    for stage in plan.stages:
        if stage.teacher == plan.config.teacher and stage.start is None:
            config = stage.config(plan.config.settings)
            for event in training(config, plan.out / stage.name, dry=True, device=plan.config.device):
                if not isinstance(event, Done):
                    yield event

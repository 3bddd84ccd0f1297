"""diffusers' scheduler_config.json and the part of a PriorConfig that says which noise belongs to which timestep.

How a scheduler samples (its steps, clipping, thresholding, spacing) is no fact about the network, and stays there.
"""

from collections.abc import Mapping
from typing import Any

from undiffuse.checkpoints.native import PriorConfig

SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "quad",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
DEFAULTS: dict[str, Any] = {  # what these classes take for a setting that the file leaves out
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
CLASSES = (
    "DDPMScheduler",
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDPMParallelScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
)


def schedule_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a PriorConfig from a scheduler_config.json. ValueError names what is not known here."""
    kind = given.get("_class_name")
    if kind not in CLASSES:
        raise ValueError(
            f"scheduler_config.json: _class_name = {str(kind)[:60]}; the schedules of {', '.join(CLASSES[:3])} "
            "and their like are known here, those of score-based and flow models are not"
        )
    told = {**DEFAULTS, **{key: value for key, value in given.items() if key in DEFAULTS}}
    if "predict_epsilon" in given and "prediction_type" not in given:  # until diffusers 0.9
        told["prediction_type"] = "epsilon" if given["predict_epsilon"] else "sample"
    if given.get("trained_betas") is not None:
        raise ValueError(
            "scheduler_config.json: trained_betas is a list of its own; a schedule here has a name: "
            f"set trained_betas to null and beta_schedule to one of {', '.join(SCHEDULES)} if it is one of these"
        )
    for name, choices in (("beta_schedule", SCHEDULES), ("prediction_type", PREDICTIONS)):
        if not isinstance(told[name], str) or told[name] not in choices:
            raise ValueError(
                f"scheduler_config.json: {name} = {str(told[name])[:60]}; expected {', '.join(choices)}"
            )
    fields: dict[str, Any] = {
        "prediction": PREDICTIONS[told["prediction_type"]],
        "schedule": SCHEDULES[told["beta_schedule"]],
        "timesteps": told["num_train_timesteps"],
        "zero_terminal_snr": bool(given.get("rescale_betas_zero_snr")),
    }
    ends = (told["beta_start"], told["beta_end"])
    if told["beta_schedule"] != "squaredcos_cap_v2" and (
        ends != (1e-4, 0.02) or fields["schedule"] == "linear" and fields["timesteps"] != 1000
    ):
        fields |= {"beta_start": ends[0], "beta_end": ends[1]}
    return fields


def scheduler_of(config: PriorConfig, learned_variance: bool) -> dict[str, Any]:
    """The scheduler_config.json of a prior, for DDPMPipeline. ValueError for a prior without such a schedule."""
    names = {ours: theirs for theirs, ours in SCHEDULES.items()}
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if config.prediction not in predictions:
        raise ValueError(
            f"prediction {config.prediction}: DDPMPipeline knows networks that are told a timestep "
            f"({', '.join(predictions)})"
        )
    if config.schedule not in names:
        raise ValueError(f"schedule {config.schedule}; DDPMScheduler knows {', '.join(names)}")
    if config.time_scale != 1:
        raise ValueError(
            f"time_scale {config.time_scale:g}; DDPMPipeline tells its network the timestep itself"
        )
    start, end = _ends(config)
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": config.timesteps,
        "beta_schedule": names[config.schedule],
        "beta_start": start,
        "beta_end": end,
        "trained_betas": None,
        "prediction_type": predictions[config.prediction],
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "variance_type": "learned_range" if learned_variance else "fixed_large",
        "clip_sample": True,
        "clip_sample_range": 1.0,
    }


def _ends(config: PriorConfig) -> tuple[float, float]:
    """First and last beta, as they are; of the cosine schedule, which has none, what DDPMScheduler writes."""
    if config.beta_start is not None and config.beta_end is not None:
        return config.beta_start, config.beta_end
    scale = 1000 / config.timesteps if config.schedule == "linear" else 1.0
    return 1e-4 * scale, 0.02 * scale

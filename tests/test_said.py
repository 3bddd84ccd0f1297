"""What is said on the command line and the settings that it makes, both ways."""

import shlex
from pathlib import Path

import pydantic
import pytest
import typer

from undiffuse.commands.from_model import command
from undiffuse.config.analyse.attention import AttentionConfig
from undiffuse.config.analyse.everything import AllConfig
from undiffuse.config.analyse.guidance import GuidanceConfig
from undiffuse.config.analyse.noise import NoiseConfig
from undiffuse.config.analyse.restore import RestoreAnalysisConfig
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.analyse.trajectories import DeterminismConfig, TrajectoriesConfig
from undiffuse.config.bench import BenchConfig, TuneConfig
from undiffuse.config.compare import CompareConfig, LikelihoodConfig
from undiffuse.config.convert import ConvertConfig
from undiffuse.config.ddrm import DdrmConfig
from undiffuse.config.distil import DistilConfig
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.config.pareto import ParetoConfig
from undiffuse.config.restore import RestoreConfig
from undiffuse.config.said import command_line, settings
from undiffuse.config.sample import SampleConfig

GIVEN = [
    AttentionConfig(run="r", query=("14:14", "3:20"), n=1, batch=3),
    AllConfig(run="r", students=("a b", "c"), skip=("noise", "sizes"), scales=(1, 2.5), embed=("pca", "umap")),
    GuidanceConfig(run="r", scales=(1.0, 1 / 3), classifier=Path("c.onnx"), classifier_range="0..255"),
    NoiseConfig(runs=("r",), data="d", source="idx:split=test", steps=7, sampler="heun"),
    RestoreAnalysisConfig(result=Path("-out"), every=5, draws=2),
    SizesConfig(students=("s",), focus=(0.1, 0.5), choose=(0.1, 0.25), n=8),
    SizesConfig(students=("s",), focus=(1e-5, 5e-5)),
    TrajectoriesConfig(priors=("p",), embed=(), dims=(3,), store=False, of="states"),
    TrajectoriesConfig(stored=Path("t.safetensors"), label="none"),
    DeterminismConfig(run="r", n=3, steps=4, guidance=2),
    BenchConfig(
        data=("a", "b/*.png"), tasks=("inp:random,missing=0.5", "deno"), algorithms=("dpir@5:lam=0.2,zeta=1", "ddrm"),
        baselines=("none",), noise=(0.1, 1e-7), report=True, size=64,
    ),
    TuneConfig(task="sr4", data=("a",), rounds=2, out=Path("x y.yaml"), plugins=(Path("one.py"),)),
    CompareConfig(prior="p", samplers=("ddim:eta=1,grid=leading:50", "heun:9"), presets=(5, 10), clip=True, n=2),
    LikelihoodConfig(prior="p", data="d", trace="hutchinson", dequantise="unit", bound=True, probes=2),
    ConvertConfig(file="a.ckpt", out=Path("b"), to="diffusers", precision="bf16"),
    DdrmConfig(config="c.yml", deg="sr4", sigma_0=0.05, eta_b=0.5, image_folder="demo", subset_start=0, subset_end=4),
    DistilConfig(teacher="t", sizes=(0.1, 0.3), truth=0.5, settings=("a.b=[1, 2]", "c.d=x,y"), steps=9),
    DistilConfig(teacher="t", method="restore", to_steps=4, tasks=("sr4", "inp:random,missing=0.5"), noise=0.2),
    EvaluateConfig(samples=Path("s"), reference=Path("r"), metrics=("kid", "prdc"), features="f.onnx", range="0..1"),
    ParetoConfig(
        students=Path("s"), tasks=("sample", "inp:random,missing=0.5"), calls=(1, 3), beside=("photo", "b"),
        data=("d", "e"), metrics=("kid",), plugins=(Path("one.py"),),
    ),
    RestoreConfig(image=Path("-a b.png"), degrade="sr4", goal="posterior", draws=1, save=("restored", "q05"), seed=-2),
    RestoreConfig(image=Path("a.png"), degrade="blur", measured=True, blind=True, plugins=(Path("p.py"), Path("q.py"))),
    RestoreConfig(image=Path("a.png"), degrade="sr4", draws=3, goal="psnr", noise=0.1, eta=0.3),
    SampleConfig(prior="p", seed=(3, 9), n=7, guidance_interval=(0.3, 5), path="gif", label="3,5", batch="auto"),
    SampleConfig(prior="p", interpolate=("a.png", "b.png"), clip=True, grid="timesteps", compile=True),
]  # fmt: skip


def parsed(model, line):
    app, got = typer.Typer(), []
    command(app, model, example="none")(lambda config: got.append(config))
    app(shlex.split(line), standalone_mode=False)
    return got[0]


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    monkeypatch.setattr("undiffuse.commands.from_model.load_plugins", lambda paths: None)


@pytest.mark.parametrize("config", GIVEN, ids=lambda config: type(config).__name__)
def test_the_line_of_settings_makes_them_again(config):
    assert parsed(type(config), command_line(config)) == config


@pytest.mark.parametrize("model", dict.fromkeys(map(type, GIVEN)), ids=lambda model: model.__name__)
def test_every_setting_is_said_or_fixed(model):
    """What is not said has one value: a command has no settings that nobody can give."""
    hidden = model.model_fields.keys() - settings(model).keys()
    assert hidden <= {"goal", "guidance"}
    assert all(said.help for said in settings(model).values())


def test_only_what_differs_from_the_defaults_is_said():
    assert command_line(CompareConfig(prior="p"), "undiffuse", "compare") == "undiffuse compare p"


def test_defaults_depend_on_what_else_is_said():
    posterior = parsed(RestoreConfig, "a.png --degrade sr4 --draws 4")
    assert (posterior.goal, posterior.draws) == ("posterior", 4)
    eight = parsed(RestoreConfig, "a.png --degrade sr4 --goal posterior --measured")
    assert (eight.draws, eight.noise) == (8, "auto")
    assert parsed(SampleConfig, "p --seed 0-63").n == 64


def test_a_number_that_is_said_twice_is_one():
    assert parsed(BenchConfig, "--data d --noise '0, 0.05;5e-2,0.0'").noise == (0, 0.05)
    assert parsed(DistilConfig, "t --sizes 0.3,0.30").sizes == (0.3,)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (RestoreConfig, {"image": "a.png", "degrade": "sr4", "out": None}),
        (SampleConfig, {"prior": "p", "seed": (0, "x")}),
    ],
)
def test_what_has_no_such_type_is_refused(model, given):
    with pytest.raises(pydantic.ValidationError, match="out|seed"):
        model(**given)


@pytest.mark.parametrize(
    ("model", "line", "said"),
    [
        (SampleConfig, "p --seed 9-3", "--seed 9-3: expected a range that rises"),
        (
            SampleConfig,
            "p --seed 0-9223372036854775808",
            "--seed 0-[0-9]+: expected seeds below [^;]*$",
        ),
        (SampleConfig, "p --n x", "--n x: expected a whole number$"),
        (SampleConfig, "p --guidance -1e0", "--guidance -1e0: input should be greater than or equal to 0"),
        (SampleConfig, "p --seed x", "expected a whole number, or a range such as 0-63"),
        (
            SampleConfig,
            "p --batch 0",
            "--batch 0: expected a whole number such as 16, or auto",
        ),
        (SampleConfig, "p --guidance-interval 1", "--guidance-interval 1: expected LOW,HIGH such as 0.3,5"),
        (SampleConfig, "p --path avi", "--path avi: input should be 'gif', 'strip' or 'mp4'"),
        (BenchConfig, "--data d --algorithms 'dpir;;ddrm'", "there is an empty name; write names with ;"),
        (BenchConfig, "--data d --noise 0,x", "--noise x: expected a number"),
        (
            ParetoConfig,
            "s --calls 0",
            "--calls 0: input should be greater than or equal to 1$",
        ),
        (
            RestoreConfig,
            "a --degrade sr4 --noise Auto",
            "--noise Auto: .* number, or 'auto'$",
        ),
        (
            RestoreConfig,
            "a --degrade sr4 --save none",
            "--save none: input should be 'restored'",
        ),
        (
            EvaluateConfig,
            "s --reference r --metrics none",
            "--metrics none: input should be 'fid'",
        ),
        (SizesConfig, "s --focus 3", "expected two sizes with a dash, such as 0.1-0.5"),
    ],
)
def test_what_cannot_be_read_is_named(model, line, said):
    app = typer.Typer()

    @command(app, model, example="none")
    def takes(config):
        pytest.fail("it was taken")

    with pytest.raises(ValueError, match=said):
        app(shlex.split(line), standalone_mode=False)

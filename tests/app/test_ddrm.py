"""DDRM's command line: the authors' options, folders, order and files, ours and theirs."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from tests.networks.weights import seeded
from tests.pictures import photograph
from tests.small import CLASSES, changed, stored
from undiffuse.app.ddrm import degrade, method
from undiffuse.app.ddrm import pictures as layouts
from undiffuse.app.ddrm.asked import Asked
from undiffuse.app.ddrm.folder import Results
from undiffuse.app.ddrm.pictures import Pictures, fit, open_pictures, shuffled, some
from undiffuse.app.ddrm.setup import Data, find_setup, read_setup
from undiffuse.app.ddrm.weights import place, weights
from undiffuse.app.priors import Opened, open_prior
from undiffuse.checkpoints import NoisyClassifierConfig, save_classifier
from undiffuse.checkpoints.known import known
from undiffuse.core.images import read, to_bytes, to_unit, write
from undiffuse.priors import DiscreteSchedule, NoisyClassifier
from undiffuse.priors.schedules import linear

SIZE = 16
OURS = {
    "prior": "photo-gaussian",
    "size": SIZE,
    "batch": 2,
    "data": {"layout": "folder", "path": "datasets/ood", "fit": "centre"},
}


def authors(dataset, size=256, **data):
    """A config as DDRM's authors write it, down to sections that are for training."""
    return {
        "data": {
            "dataset": dataset, "image_size": size, "channels": 3, "logit_transform": False, "rescaled": True,
            "uniform_dequantization": False, "gaussian_dequantization": False, "num_workers": 32, **data,
        },
        "model": {"type": "simple", "ch": 128, "ch_mult": [1, 1, 2, 2, 4, 4], "var_type": "fixedsmall"},
        "diffusion": {
            "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_diffusion_timesteps": 1000,
        },
        "optim": {"lr": 0.00002},
    }  # fmt: skip


def openai(config, class_cond):
    config["model"] = {"type": "openai", "class_cond": class_cond, "num_channels": 256, "use_fp16": True}
    config["classifier"] = {"classifier_scale": 1.0, "classifier_width": 128}
    return config


THEIRS = {
    "celeba_hq": (authors("CelebA_HQ", category="", out_of_dist=True), 4),
    "bedroom": (authors("LSUN", category="bedroom", out_of_dist=True), 6),
    "cat": (authors("LSUN", category="cat", out_of_dist=False), 32),
    "church": (authors("LSUN", category="church_outdoor", out_of_dist=True), 6),
    "imagenet_256": (openai(authors("ImageNet", subset_1k=True, out_of_dist=False), False), 8),
    "imagenet_256_cc": (openai(authors("ImageNet", subset_1k=False, out_of_dist=False), True), 8),
    "imagenet_512_cc": (openai(authors("ImageNet", 512, subset_1k=False, out_of_dist=False), True), 1),
}


@pytest.mark.parametrize("name", THEIRS)
def test_the_published_configs(name, tmp_path, monkeypatch):
    """Ours say what the authors' say, and name files that are known; found under the authors' name, too."""
    theirs, batch = THEIRS[name]
    text = yaml.safe_dump({**theirs, "sampling": {"batch_size": batch, "last_only": True}})
    monkeypatch.chdir(tmp_path)
    ours, where = find_setup(f"{name}.yml")
    assert "comes along" in where and find_setup(name)[0] == ours == read_setup(text, "theirs")
    assert known()[ours.prior].size == ours.size and not known()[ours.prior].is_classifier
    guided = known()[ours.prior].network.get("num_classes") is not None
    assert guided == (ours.classifier is not None) == name.endswith("_cc")
    if ours.classifier:
        assert known()[ours.classifier].is_classifier and known()[ours.classifier].size == ours.size
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / f"{name}.yml").write_text(text)
    assert find_setup(f"{name}.yml") == (ours, f"configs/{name}.yml")  # the user's own comes first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"dataset": "MNIST", "image_size": 28}}, "dataset|no published network"),
        ({"model": {"type": "bayesian"}}, "model type 'bayesian'; expected simple or openai"),
        ({"data": {"dataset": "CelebA_HQ", "image_size": 256, "logit_transform": True}}, "other units"),
        ({"diffusion": {**THEIRS["cat"][0]["diffusion"], "beta_end": 0.03}}, "expected DDPM's"),
        ({"data": {"dataset": "LSUN", "image_size": 256}}, "'category' is missing"),
    ],
)
def test_configs_that_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        read_setup(yaml.safe_dump({**authors("CelebA_HQ"), **change}), "odd.yml")


def test_what_is_no_config(tmp_path):
    for text, said in (("- a", "no settings"), ("a: [", "no YAML"), ("prior: photo\nsize: x", "size")):
        with pytest.raises(ValueError, match=said):
            read_setup(text, "odd.yml")
    with pytest.raises(ValueError, match="of ours there are bedroom, cat"):
        find_setup("imagenet_1024.yml")


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (7, 1234), (50, 3)])
def test_the_order_is_that_of_the_authors_loader(count, seed):
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(torch.arange(count), batch_size=3, shuffle=True, generator=generator)  # type: ignore[arg-type]
    assert shuffled(count, seed) == torch.cat(list(loader)).tolist()


def coordinates(height, width):
    """(3, H, W) uint8: row, column, 0."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, 0 * rows]).to(torch.uint8)


def test_crops():
    x = coordinates(40, 60)
    assert fit(x, "stretch", 20).shape == (3, 20, 20)
    for how in ("centre", "shorter", "square"):
        same = coordinates(40, 40)
        assert torch.equal(fit(same, how, 40), same)  # nothing to resize, nothing to cut
        middle = fit(x, how, 40)
        assert torch.equal(middle, x[:, :, 10:50])
        half = fit(x, how, 20).float()
        assert (
            half[0, :, 0] - (torch.arange(20) * 2 + 0.5)
        ).abs().max() < 1.5  # centres of pairs, and rounding
        assert (half[1, 0, :] - (torch.arange(20) * 2 + 10.5)).abs().max() < 1.5
    assert torch.equal(fit(coordinates(218, 178), "celeba", 128), coordinates(218, 178)[:, 57:185, 25:153])


def store(folder, names, height=SIZE, width=SIZE):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(photograph(height, width).roll(3 * i, 2), path)


def opened(data, exp):
    return open_pictures(Data(**{"fit": "centre", **data}), exp, SIZE)


def test_layouts(tmp_path, monkeypatch):
    """Order and classes of torchvision's ImageFolder; names of a list without endings; the held-out tenth."""
    store(tmp_path / "datasets/ood", ["a-b/0.png", "a/1.png", "a/c/0.png", "a/0.png"])
    found = opened({"layout": "folder", "path": "datasets/ood"}, tmp_path)
    assert [found.name(i) for i in range(4)] == ["a/0.png", "a/1.png", "a/c/0.png", "a-b/0.png"]
    assert found[0][0].shape == (3, SIZE, SIZE) and found[0][1] is None

    store(tmp_path / "list", ["x.JPEG", "y.jpeg", "z.png"])
    (tmp_path / "names.txt").write_text("x.JPEG 7\ny 3\nz 1\n")
    found = opened({"layout": "list", "path": "list", "list": "names.txt", "fit": "square"}, tmp_path)
    assert [(found.name(i), found[i][1]) for i in range(3)] == [("x.JPEG", 7), ("y.jpeg", 3), ("z.png", 1)]
    (tmp_path / "names.txt").write_text("x\nw\n")
    with pytest.raises(ValueError, match=r"1 of 2 pictures named by .* are missing \(w"):
        opened({"layout": "list", "path": "list", "list": "names.txt"}, tmp_path)

    store(tmp_path / "faces", [f"{i:02}.png" for i in range(20)])
    found = opened({"layout": "celeba_hq", "path": "faces"}, tmp_path)
    numbers = list(range(20))
    state = np.random.get_state()
    np.random.seed(2019)
    np.random.shuffle(numbers)
    np.random.set_state(state)
    assert [found.name(i) for i in range(len(found))] == [f"{i:02}.png" for i in numbers[18:]]

    store(tmp_path / "imagenet/val", ["n00000002/a.JPEG", "n00000001/b.JPEG", "n00000001/a.JPEG"])
    found = opened({"layout": "imagenet", "path": "imagenet"}, tmp_path)
    assert [found[i][1] for i in range(3)] == [None] * 3  # two of a thousand folders: no class is known
    monkeypatch.setattr(layouts, "CLASSES", 2)
    found = opened({"layout": "imagenet", "path": "imagenet"}, tmp_path)
    assert [(found.name(i), found[i][1]) for i in range(3)] == [
        ("n00000001/a.JPEG", 0), ("n00000001/b.JPEG", 0), ("n00000002/a.JPEG", 1),
    ]  # fmt: skip

    store(tmp_path / "celeba/celeba/img_align_celeba", ["000001.png", "000002.png"], 218, 178)
    (tmp_path / "celeba/celeba/list_eval_partition.txt").write_text("000001.png 0\n000002.png 2\n")
    found = opened({"layout": "celeba", "path": "celeba", "fit": "celeba"}, tmp_path)
    assert [found.name(i) for i in range(len(found))] == ["000002.png"] and found[0][0].shape == (
        3,
        SIZE,
        SIZE,
    )

    with pytest.raises(ValueError, match="datasets/lsun/cat_val_lmdb|pip install lmdb"):
        opened({"layout": "lsun", "path": "datasets/lsun/cat_val_lmdb"}, tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        opened({"layout": "folder", "path": "datasets/none"}, tmp_path)


def test_subsets(tmp_path):
    store(tmp_path / "d", [f"{i}.png" for i in range(5)])
    found = opened({"layout": "folder", "path": "d"}, tmp_path)
    assert isinstance(found, Pictures) and len(some(found, -1, -1)) == 5 and len(some(found, -1, 3)) == 5
    assert [some(found, 1, 3).name(i) for i in range(2)] == ["1.png", "2.png"]
    with pytest.raises(ValueError, match="range 1:9 of a dataset of 5"):
        some(found, 1, 9)


def test_weights_are_where_the_authors_keep_them_or_pulled(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "shelf"))
    exp = tmp_path / "exp"
    where = {name: place(known()[name], exp).relative_to(exp).as_posix() for name in known()}
    assert where["celeba_hq"] == "logs/celeba/celeba_hq.ckpt"
    assert where["256x256_diffusion"] == "logs/imagenet/256x256_diffusion.pt"
    ema = "logs/diffusion_models_converted/ema_diffusion_lsun_cat_model/model-1761000.ckpt"
    assert where["ema_lsun_cat"] == ema
    with pytest.raises(ValueError, match=f"'{exp / ema}' nor pulled: run undiffuse priors pull ema_lsun_cat"):
        weights("ema_lsun_cat", exp, "--prior")
    pulled = tmp_path / "shelf/ema_lsun_cat/ema_lsun_cat.ckpt"
    for path in (pulled, exp / ema):  # theirs first, if there are both
        path.parent.mkdir(parents=True)
        path.touch()
        assert weights("ema_lsun_cat", exp, "--prior") == str(path)
    assert weights("mine.pt", exp, "--prior") == "mine.pt"


DEGS = ["cs2", "inp", "deno", "deblur_uni", "deblur_gauss", "deblur_aniso", "sr4", "sr_bicubic4", "color"]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("deg", DEGS)
def test_y0(deg, compat, tmp_path):
    """The picture of the measurement, in the cases that can be written down at once."""
    x = photograph(32, 32)[None].double()
    A = degrade.operator(deg, (3, 32, 32), 5, tmp_path, compat)
    y0 = degrade.shown(A, deg, A(x))
    assert y0.shape == x.shape and y0.isfinite().all()
    if deg == "deno":
        assert torch.allclose(y0, x)
    elif deg == "sr4":
        blocks = x.reshape(1, 3, 8, 4, 8, 4).mean((3, 5))
        assert torch.allclose(y0, blocks.repeat_interleave(4, 2).repeat_interleave(4, 3))
    elif deg == "color":
        assert (y0 - x.mean(1, keepdim=True)).abs().max() < (2e-4 if compat else 1e-12)  # 0.3334 for 1/3
    elif deg == "inp":
        missing = (y0 == -1).all(1)
        assert missing.float().mean() == 0.5 and torch.allclose(y0[:, :, ~missing[0]], x[:, :, ~missing[0]])
    elif deg.startswith("deblur"):
        assert torch.equal(y0, A(x))


def test_published_and_corrected_blurs_differ(tmp_path):
    """The corrected one is a blur: it keeps a flat picture inside. The published one is not."""
    flat = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    for compat, kept in ((False, True), (True, False)):
        y = degrade.operator("deblur_uni", (3, 32, 32), 0, tmp_path, compat)(flat)
        assert bool((y[..., 8:-8, 8:-8] - 1).abs().max() < 1e-9) == kept


def test_masks_of_the_authors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="inp_masks/lorem3.npy.*authors' code"):
        degrade.operator("inp_lorem", (3, 16, 16), 0, tmp_path, False)
    mask = np.ones((16, 16), np.uint8)
    mask[3:5, 2:] = 0
    (tmp_path / "exp/inp_masks").mkdir(parents=True)
    np.save(tmp_path / "exp/inp_masks/lorem3.npy", mask)
    x = photograph(16, 16)[None].double()
    for compat in (False, True):
        A = degrade.operator("inp_lorem", (3, 16, 16), 0, tmp_path / "exp", compat)
        y0 = degrade.shown(A, "inp_lorem", A(x))
        assert torch.allclose(y0, torch.where(torch.from_numpy(mask) > 0, x, -1))
    with pytest.raises(ValueError, match="has size"):
        degrade.operator("inp_lorem", (3, 32, 32), 0, tmp_path / "exp", True)


@pytest.mark.parametrize("deg", ["jpeg:quality=10", "blur:motion,angle=30"])
def test_degradations_without_svd(deg, tmp_path):
    with pytest.raises(ValueError, match="singular value decomposition"):
        degrade.operator(deg, (3, 32, 32), 0, tmp_path, False)
    with pytest.raises(ValueError, match="with --compat; the authors have"):
        degrade.operator(deg, (3, 32, 32), 0, tmp_path, True)


def test_the_authors_timesteps():
    schedule = DiscreteSchedule.from_betas(linear())
    levels = method.authors_levels(schedule, 20)
    assert len(levels) == 20 and levels[0] == schedule.sigmas[950] and levels[-1] == schedule.sigmas[0]
    assert len(method.authors_levels(schedule, 30)) == 31
    with pytest.raises(ValueError, match="this prior has 1000"):
        method.authors_levels(schedule, 1001)


class Quadratic(torch.nn.Module):
    """Logits -|x_t - t/1000 c|^2 for two colours c, so that gradients can be written down."""

    def forward(self, x, t):
        centres = torch.tensor([-0.5, 0.5], dtype=x.dtype)
        c = (t.to(x).view(-1, 1, 1, 1, 1) / 1000) * centres.view(1, 2, 1, 1, 1)
        return -(x.unsqueeze(1) - c).square().flatten(2).sum(2)


def test_published_guidance_looks_at_the_start():
    """eps - sqrt(1 - abar) grad log p(y | x_T, t), in the authors' own variables."""
    schedule = DiscreteSchedule.from_betas(linear())
    classifier, labels, scale = NoisyClassifier(Quadratic(), schedule), torch.tensor([0, 1]), 0.7

    class Known(torch.nn.Module):
        def forward(self, x, sigma):
            return 0.3 * x

    prior = Opened(Known(), "known")
    x, start = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    sigma_T, t = schedule.sigmas[950], 600
    sigma, abar = schedule.sigmas[t], schedule.alphas_cumprod[t]
    x_T = (start / (1 + sigma_T**2).sqrt()).requires_grad_()  # variance preserving
    log_p = Quadratic()(x_T, torch.full((2,), float(t))).log_softmax(1)[[0, 1], labels].sum()
    (gradient,) = torch.autograd.grad(log_p, x_T)
    eps = (x - 0.3 * x) / sigma - (1 - abar).sqrt() * scale * gradient
    published = method.frozen(prior, labels, classifier, scale, start, sigma_T)
    assert torch.allclose(published(x, sigma), x - sigma * eps)
    assert torch.allclose(
        published(x + 1, sigma) - 0.3 * (x + 1), published(x, sigma) - 0.3 * x
    )  # x has no say


def test_guidance_looks_at_the_current_picture(monkeypatch):
    """The same at x_t: the authors' formula with cls_fn(xt, t, classes)."""
    schedule = DiscreteSchedule.from_betas(linear())
    classifier, labels, scale = NoisyClassifier(Quadratic(), schedule), torch.tensor([0, 1]), 0.7
    prior = open_prior("photo").prior
    assert prior is not None
    x, sigma, abar = torch.randn(2, 3, 16, 16), schedule.sigmas[600], schedule.alphas_cumprod[600]
    x_t = (x * abar.sqrt()).double().requires_grad_()
    log_p = Quadratic()(x_t, torch.full((2,), 600.0)).log_softmax(1)[[0, 1], labels].sum()
    (gradient,) = torch.autograd.grad(log_p, x_t)
    with torch.no_grad():
        eps = (x - prior(x, sigma)) / sigma - (1 - abar).sqrt() * scale * gradient
    found = method.denoiser(Opened(prior, "photo"), labels, classifier, scale)(x, sigma.float())
    assert (found - (x - sigma * eps)).abs().max() < 1e-4  # float32


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """An experiment folder with five pictures, and a config beside it."""
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "exp/datasets/ood", [f"0/orig_{i}.png" for i in range(5)], 20, 24)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/small.yml").write_text(yaml.safe_dump(OURS))
    return tmp_path / "exp"


COMMAND = "ddrm --config small.yml --doc imagenet --timesteps 4 --eta 0.85 --etaB 1 --deg sr4 --sigma_0 0.05 -i demo"


def names(exp):
    return {path.name for path in (exp / "image_samples/demo").iterdir()}


def numbered(numbers):
    found = {file for i in numbers for file in (f"orig_{i}.png", f"y0_{i}.png", f"{i}_-1.png")}
    return {*found, "ddrm.jsonl"}


@pytest.mark.parametrize("compat", [False, True])
def test_the_command_of_the_seeds(undiffuse, exp, compat):
    extra = ["--comment", "x", "--verbose", "debug", "--sample", "--seed", "7", "--exp", exp, "--ni"]
    done = undiffuse(*COMMAND.split(), *extra, *(["--compat"] if compat else []))
    assert done.code == 0, done.err
    assert "ignored, as it changes nothing here: --doc, --comment, --verbose, --sample" in done.err
    assert ("as published: the start is divided" in done.err) == compat
    assert names(exp) == numbered(range(5))
    out, order = exp / "image_samples/demo", shuffled(5, 7)
    found: list[float] = []
    for i in range(5):
        clean = read(exp / f"datasets/ood/0/orig_{order[i]}.png").pixels
        pixels = fit(torch.from_numpy(to_bytes(clean)).permute(2, 0, 1), "centre", SIZE)
        orig, y0, answer = (read(out / f"{name}.png").pixels for name in (f"orig_{i}", f"y0_{i}", f"{i}_-1"))
        assert torch.equal((to_unit(orig) * 255).round().to(torch.uint8), pixels)
        assert y0.shape == orig.shape == answer.shape
        assert (y0 - orig).square().mean() > 1e-4
        found.append(-10 * (to_unit(answer) - to_unit(orig)).square().mean().log10().item())
    printed = re.search(r"Total Average PSNR: ([\d.]+)\nNumber of samples: 5", done.out)
    # of floats, where the files are rounded to 255 levels: at 30 dB that is worth 0.03 dB
    assert printed and abs(float(printed[1]) - sum(found) / 5) < 0.05
    assert f"5 of 5: PSNR {printed[1]}" in done.err


def test_a_run_goes_on(undiffuse, exp):
    undiffuse(*COMMAND.split(), "--ni")
    out = exp / "image_samples/demo"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    again = undiffuse(*COMMAND.split())
    assert again.code == 0 and "5 of 5 are there already" in again.err
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    (out / "2_-1.png").unlink()
    with open(out / "ddrm.jsonl", "a") as file:
        file.write('{"index": 0, "pict')  # as a kill leaves it
    again = undiffuse(*COMMAND.split(), "--batch", "1")
    assert again.code == 0 and "4 of 5 are there already" in again.err
    assert (out / "2_-1.png").read_bytes() == before["2_-1.png"][0]  # the same pixels in another batch
    assert "5 of 5 are there already" in undiffuse(*COMMAND.split()).err


@pytest.mark.parametrize("batch", ["1", "2"])
def test_an_unreadable_picture_is_passed_over(undiffuse, exp, batch):
    """Told in a line and counted; all others keep their numbers and their pixels. Repaired, it is made up for."""
    assert undiffuse(*COMMAND.split()).code == 0
    out, bad = exp / "image_samples/demo", exp / "datasets/ood/0/orig_0.png"
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    whole, number = bad.read_bytes(), shuffled(5, 1234).index(0)
    bad.write_bytes(whole[:200])
    command = COMMAND.replace("demo", "other").split()
    done = undiffuse(*command, "--batch", batch)
    assert done.code == 2 and "Number of samples: 4" in done.out
    assert re.search(r"(?m)^passed over 0/orig_0.png: .*orig_0.png", done.err)
    assert "error: 1 of 5 pictures passed over: 0/orig_0.png: " in done.err
    out = exp / "image_samples/other"
    kept = {name: data for name, data in before.items() if name not in numbered([number])}
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == kept
    bad.write_bytes(whole)
    again = undiffuse(*command)
    assert again.code == 0 and "4 of 5 are there already" in again.err
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == before


def test_no_readable_picture(undiffuse, exp):
    for path in (exp / "datasets/ood/0").iterdir():
        path.write_bytes(b"no picture")
    refused = undiffuse(*COMMAND.split(), "--ni")
    assert refused.code == 2 and "none of 5 pictures can be read" in refused.err
    assert not (exp / "image_samples").exists()


def test_subset_of_the_command(undiffuse, exp):
    done = undiffuse(*COMMAND.split(), "--subset_start", "2", "--subset_end", "4")
    assert done.code == 0 and names(exp) == numbered([2, 3])
    lines = [json.loads(line) for line in (exp / "image_samples/demo/ddrm.jsonl").read_text().splitlines()]
    assert {line["picture"] for line in lines[1:]} == {"0/orig_2.png", "0/orig_3.png"}
    more = undiffuse(*COMMAND.split(), "--subset_start", "4", "--subset_end", "5")
    assert more.code == 0 and names(exp) == numbered([2, 3, 4])  # beside what is there


def test_results_of_another_run_are_not_overwritten_in_silence(undiffuse, exp):
    undiffuse(*COMMAND.split())
    out = exp / "image_samples/demo"
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = COMMAND.replace("sr4", "sr2").split()
    refused = undiffuse(*other)
    assert refused.code == 2 and "nothing was changed" in refused.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    agreed = undiffuse(*other, "--ni")
    assert agreed.code == 0 and (out / "notes.txt").read_text() == "mine"
    assert (out / "0_-1.png").read_bytes() != before["0_-1.png"]


def test_consent(tmp_path):
    asked: list[str] = []
    Results(tmp_path / "out", {"a": 1}, lambda question: bool(asked.append(question)))
    assert not asked  # an empty place needs none
    (tmp_path / "out/orig_0.png").touch()
    with pytest.raises(ValueError, match="nothing was changed"):
        Results(tmp_path / "out", {"a": 2}, lambda question: bool(asked.append(question)))
    assert asked == [f"'{tmp_path / 'out'}' holds 2 results of another run; overwrite them?"]
    Results(tmp_path / "out", {"a": 2}, lambda question: True)
    assert not (tmp_path / "out/orig_0.png").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config", "none.yml"], "no config 'none.yml'"),
        (["--config", "celeba_hq.yml"], "no such folder"),
        (["-i", "../elsewhere"], "expected a name below exp/image_samples"),
        (["-i", "/elsewhere"], "expected a name below exp/image_samples"),
        (["--timesteps", "0"], "timesteps"),
        (["--deg", "sr3"], "no degradation|sr3|divi"),
        (["--deg", "nothing"], "no degradation named 'nothing'"),
        (["--prior", "256x256_diffusion_uncond"], "run undiffuse priors pull 256x256_diffusion_uncond"),
        (["--subset_start", "3", "--subset_end", "9"], "range 3:9"),
        (["--classifier", "256x256_classifier"], "run undiffuse priors pull 256x256_classifier"),
    ],
)
def test_errors(undiffuse, exp, given, said, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(exp / "shelf"))
    refused = undiffuse(*COMMAND.split(), *given)
    assert refused.code == 2 and re.search(said, refused.err), refused.err
    assert refused.err.count("\n") <= 3 and not (exp / "image_samples").exists()


@pytest.fixture
def by_class(exp):
    """A class-conditional network and a classifier, in files."""
    same = {"in_channels": 3, "out_channels": 3}
    prior = stored(exp / "prior.safetensors", changed(CLASSES, same, channels=3, size=(SIZE, SIZE)))
    network = {
        "name": "classifier", "width": 16, "multipliers": [1], "blocks": 1, "attention": [0], "head_channels": 8,
        "groups": 4, "in_channels": 3, "num_classes": 3, "size": SIZE, "resblock_updown": False,
    }  # fmt: skip
    config = NoisyClassifierConfig(
        network=network, schedule="linear", channels=3, size=(SIZE, SIZE), num_classes=3
    )
    classifier = config.build()
    with torch.no_grad():
        seeded(classifier.net, 1)
    save_classifier(exp / "classifier.safetensors", classifier, config, {})
    return prior, exp / "classifier.safetensors"


def test_the_label_is_asked_for(undiffuse, exp, by_class):
    """A class-conditional network on pictures without classes."""
    refused = undiffuse(*COMMAND.split(), "--prior", by_class[0])
    assert refused.code == 2 and "give --label" in refused.err and not (exp / "image_samples").exists()
    assert undiffuse(*COMMAND.split(), "--prior", by_class[0], "--label", "1", "--ni").code == 0
    wrong = undiffuse(*COMMAND.split(), "--prior", by_class[0], "--label", "4", "--ni")
    assert wrong.code == 2 and re.search("label|class", wrong.err)


def test_what_is_wrong_removes_no_results(undiffuse, exp, by_class):
    """--ni lets results of another run go, but not for a run that cannot be."""
    prior, classifier = by_class
    assert undiffuse(*COMMAND.split(), "--ni").code == 0
    before = sorted((exp / "image_samples").rglob("*.png"))
    for given, said in (
        (["--prior", prior, "--label", "4"], "--label 4; the prior '.*' has the classes 0 .*, 1 .*, 2"),
        (["--label", "1"], "--label 1; the prior '.*' has no classes"),
        (["--label", "1", "--classifier", classifier], "has no classes, so that a label would mean nothing"),
    ):
        refused = undiffuse(*COMMAND.split(), "--ni", *given)
        assert refused.code == 2 and re.search(said, refused.err), refused.err
    assert before and sorted((exp / "image_samples").rglob("*.png")) == before


def test_classes_and_a_classifier_from_a_config(undiffuse, exp, by_class, monkeypatch):
    """As imagenet_256_cc.yml: labels by folder; guided at the current picture, or with --compat at the start."""
    monkeypatch.setattr(layouts, "CLASSES", 2)
    prior, classifier = map(str, by_class)
    store(exp / "datasets/imagenet/val", ["n00000001/a.JPEG", "n00000002/b.JPEG"])
    data = {"layout": "imagenet", "path": "datasets/imagenet", "fit": "centre"}
    config = {**OURS, "prior": prior, "classifier": classifier, "classifier_scale": 5.0, "data": data}
    answers: dict[str, bytes] = {}
    for name, scale, extra in (("plain", 0.0, []), ("guided", 5.0, []), ("published", 5.0, ["--compat"])):
        (exp.parent / "configs/small.yml").write_text(yaml.safe_dump({**config, "classifier_scale": scale}))
        done = undiffuse(*COMMAND.replace("demo", name).split(), *extra)
        assert done.code == 0, done.err
        out = exp / "image_samples" / name
        lines = [json.loads(line) for line in (out / "ddrm.jsonl").read_text().splitlines()[1:]]
        assert {(line["picture"], line["label"]) for line in lines} == {
            ("n00000001/a.JPEG", 0), ("n00000002/b.JPEG", 1),
        }  # fmt: skip
        answers[name] = (out / "0_-1.png").read_bytes()
        assert ("looks at the start at every step" in done.err) == (name == "published")
    assert len(set(answers.values())) == 3


def test_asked_defaults_are_the_authors():
    asked = Asked(config="a", deg="sr4", sigma_0=0.0)
    assert (asked.seed, asked.timesteps, asked.eta, asked.eta_b) == (1234, 1000, 0.85, 1.0)
    assert (asked.image_folder, str(asked.exp), asked.subset_start, asked.subset_end) == (
        "images",
        "exp",
        -1,
        -1,
    )


def test_published_folder_in_configs():
    """configs/published is what the package holds."""
    from pathlib import Path

    folder = Path(__file__).parents[2] / "configs" / "published"
    assert {path.stem for path in folder.glob("*.yaml")} == set(THEIRS)

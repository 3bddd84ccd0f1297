"""DDRM's configs, folders, crops, order and weights."""

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from tests.pictures import photograph
from undiffuse.app.ddrm import pictures as layouts
from undiffuse.app.ddrm.pictures import Pictures, fit, open_pictures, shuffled, some
from undiffuse.app.ddrm.setup import Data, find_setup, read_setup
from undiffuse.app.ddrm.weights import place, weights
from undiffuse.checkpoints.known import known
from undiffuse.core.images import write

SIZE = 16


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


def test_published_folder_in_configs():
    """configs/published is what the package holds."""
    from pathlib import Path

    folder = Path(__file__).parents[2] / "configs" / "published"
    assert {path.stem for path in folder.glob("*.yaml")} == set(THEIRS)

"""A miniature training run that tests share; also a program: python -m tests.training.runs FOLDER IMAGES."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from undiffuse.priors import Prior, scalings
from undiffuse.training import EMA, WEIGHTS, Denoising, lognormal
from undiffuse.training.checkpoint import load_resume, save_resume
from undiffuse.training.loop import Recipe, TrainState, rates, train


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)

    def forward(self, x, noise, labels):
        told = noise.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.two(torch.nn.functional.silu(self.one(torch.cat([x, told], 1))))


def data(which):
    """Stripes, each a function of its number."""
    rows = torch.arange(8.0)[None, None, :, None] + torch.tensor(list(which)).float()[:, None, None, None]
    return (rows.expand(-1, 3, 8, 6) * 0.9).sin() * 0.5, None


class Run:
    """A prior, its optimiser and an average, resumed from a folder if there is something to resume."""

    def __init__(self, batch=8, part=None, **recipe):
        self.prior = Prior(Net(), scalings.edm(0.5), channels=3)
        self.optimizer = torch.optim.AdamW(self.prior.parameters(), lr=1e-2)
        self.averages = [EMA(self.prior, halflife_images=50)]
        self.objective = Denoising(self.prior, lognormal(), WEIGHTS["edm"])
        rate = rates(warmup=20, decay="constant", images=240)
        self.recipe = Recipe(batch=batch, part=part, rate=rate, **recipe)
        self.images_seen, self.skipped = 0, 0

    def resume(self, path: Path) -> None:
        self.images_seen, self.skipped = load_resume(path, self.prior, self.optimizer, self.averages)

    def save(self, path: Path) -> None:
        save_resume(
            path,
            self.prior,
            self.optimizer,
            self.averages,
            images_seen=self.images_seen,
            skipped=self.skipped,
        )

    def go(self, images: int, data=data):
        """States, one a step."""
        states = train(
            self.objective, data, self.optimizer, self.averages, self.recipe, accelerator=Accelerator(cpu=True),
            images=images, images_seen=self.images_seen, skipped=self.skipped,
        )  # fmt: skip
        for state in states:
            self.images_seen, self.skipped = state.images_seen, state.skipped
            yield state

    def finish(self, images: int, data=data) -> list[TrainState]:
        return list(self.go(images, data))

    def weights(self) -> dict[str, torch.Tensor]:
        average = {f"average.{k}": v for k, v in self.averages[0].state_dict().items()}
        return {**self.prior.state_dict(), **average}


def main(folder: Path, images: int) -> None:
    """Train, saving after every step; go on from what is there. Each step is printed, with its loss."""
    run, path = Run(batch=8), folder / "resume.safetensors"
    if path.exists():
        run.resume(path)
    accelerator = Accelerator(cpu=True)
    for state in run.go(images):
        if accelerator.is_main_process:
            run.save(path)
            print(f"{state.images_seen} {state.loss!r}", flush=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""A file's weights are the file itself, mapped: loading takes its size once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undiffuse.networks import DDPMConfig

LARGE = DDPMConfig(width=64, multipliers=(1, 2, 4), blocks=2, attention=(2,))
TINY = DDPMConfig(width=32, multipliers=(1,), blocks=1, attention=())
CHILD = """
import sys
from pathlib import Path
from undiffuse.checkpoints import load, parse_given

def peak():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

def looked_at(path):
    net = load(path, parse_given("schedule=linear")).prior.net
    return sum(value.sum().item() for value in net.parameters())

looked_at(sys.argv[1])
before = peak()
looked_at(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_the_peak_is_the_size_of_the_file(tmp_path, form):
    """8 MB more for what reading takes beside them. A network with weights of its own would take the size twice."""
    paths = []
    for name, config in (("tiny", TINY), ("large", LARGE)):
        path = tmp_path / f"{name}.{form}"
        state = {key: torch.rand(value.shape) for key, value in config.build().state_dict().items()}
        save_file(state, path) if form == "safetensors" else torch.save(state, path)
        paths.append(str(path))
    size = Path(paths[1]).stat().st_size
    assert size > 40e6
    done = subprocess.run([sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, check=True)
    assert 0.5 * size < int(done.stdout) < size + 8e6

"""Makes a TorchScript model of any size, with torch's own prediction: a process of its own.

`python -m load_tests.large_torch DIRECTORY MEGABYTES` writes large/model.pt and a manifest there,
in the form of `loaders.samples`. Its weight is a table of which a prediction uses one row, so that
what is measured is moving it and not multiplying it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

_FEATURES = 30
_FLOAT_BYTES = 4


class Large(torch.nn.Module):
    """A linear layer over a row, and a table that is mostly dead weight."""

    def __init__(self, table_bytes: int) -> None:
        super().__init__()
        rows = max(8, table_bytes // (_FLOAT_BYTES * _FEATURES))
        self.table = torch.nn.Parameter(torch.randn(rows, _FEATURES))
        self.head = torch.nn.Linear(_FEATURES, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Two numbers a row."""
        found: torch.Tensor = self.head(rows + self.table[7])
        return found


def main() -> None:
    """Makes what the command line asks for."""
    target, megabytes = Path(sys.argv[1]), float(sys.argv[2])
    torch.manual_seed(0)
    module = Large(int(megabytes * 1e6)).eval()
    directory = target / "large"
    directory.mkdir(parents=True)
    script: Any = torch.jit.script(module)
    script.save(str(directory / "model.pt"))
    row = [round(0.1 * number - 1.5, 1) for number in range(_FEATURES)]
    with torch.inference_mode():
        predictions = module(torch.tensor([row])).tolist()
    payload = ",".join(map(str, row))
    told = {"tenant": "large", "framework": "torch", "directory": "large", "payload": payload}
    (target / "manifest.json").write_text(json.dumps([{**told, "predictions": predictions}]))


if __name__ == "__main__":
    main()

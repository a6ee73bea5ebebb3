"""How a peer's own script loads and asks a model: the same calls for all, copied beside each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Predict = Callable[[Any], Any]  # float32 rows to as many rows of numbers


def load(path: Path) -> Predict:
    """A model from its file: TorchScript when it ends in .pt, else xgboost. One thread each."""
    if path.suffix == ".pt":
        return _load_torch(path)
    import xgboost  # noqa: PLC0415 - one framework may be missing

    booster = xgboost.Booster()
    booster.load_model(path)
    booster.set_param({"nthread": 1})
    return lambda rows: booster.inplace_predict(rows).reshape(len(rows), -1)


def _load_torch(path: Path) -> Predict:
    import torch  # noqa: PLC0415 - one framework may be missing

    torch.set_num_threads(1)
    load_script: Any = torch.jit.load
    module = load_script(str(path)).eval()

    def predict(rows: Any) -> Any:  # noqa: ANN401 - arrays
        with torch.inference_mode():
            return module(torch.from_numpy(rows)).numpy()

    return predict


class Resident:
    """Models in memory, all at once if there is room; else the least recently used leaves.

    Args:
        directory: holds a file a model.
        room: how many may be in memory.
        loaded: how many of them are from the start on, the first ones.
    """

    def __init__(self, directory: str | Path, room: int, loaded: int) -> None:
        self._paths = {path.stem: path for path in sorted(Path(directory).iterdir())}
        self._room = room
        self._models: OrderedDict[str, Predict] = OrderedDict()
        for name in list(self._paths)[: min(room, loaded)]:
            self.get(name)

    def get(self, name: str) -> Predict:
        """The model, loaded if need be."""
        if name in self._models:
            self._models.move_to_end(name)
            return self._models[name]
        if len(self._models) >= self._room:
            self._models.popitem(last=False)
        self._models[name] = load(self._paths[name])
        return self._models[name]

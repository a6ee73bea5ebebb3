"""What happens where a script leaves a function out: SageMaker's defaults, by what its model is.

Decisions: a default `input_fn` gives what the framework's own image gives: a DMatrix for a Booster,
a tensor for a torch module, else an array. A default `output_fn` writes what `predict_fn` returned
in the first accepted format that we write. Frameworks are recognised by the object: whoever made it
has imported them.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np

from loaders.codecs import ENCODERS, Array, as_floats, decode
from loaders.content_types import choose_accept, read_content_type
from loaders.contract import Answer, BadPayload, Payload, PredictionRaised, UnsupportedAccept
from loaders.rows import READABLE
from loaders.sparse import Gaps

_TYPED = frozenset({"npy", "recordio-protobuf"})  # the rest is text: float32 in torch's image
_WRITABLE_KINDS = "biufUS"  # of numpy: booleans, numbers, texts
_JSON_TYPES = (dict, list, tuple, str, bool, int, float, type(None))


def default_input(payload: Payload, model: object) -> Any:  # noqa: ANN401 - what the framework takes
    """Decodes the body into what the model's framework predicts on."""
    if not payload.body or payload.body.isspace():
        raise BadPayload("Unable to evaluate payload provided: it is empty.")
    content_type = read_content_type(payload.content_type, READABLE, "json")
    booster = _is(model, "xgboost", "Booster")
    gaps = Gaps(width=_width(model), absent=np.nan if booster else 0.0)
    array = decode(payload.body, content_type, gaps)
    if booster:
        return sys.modules["xgboost"].DMatrix(np.atleast_2d(array), nthread=1)
    if _is(model, "torch.nn", "Module"):
        if content_type.name not in _TYPED:
            array = as_floats(array, np.float32)
        return sys.modules["torch"].from_numpy(np.array(array))  # a copy: the body's is read-only
    return array


def default_predict(data: Any, model: Any) -> Any:  # noqa: ANN401 - as default_input
    """Asks the model as its framework's own image does. Raises whatever that raises."""
    if _is(model, "xgboost", "Booster"):
        return _predict_booster(data, model)
    if _is(model, "torch.nn", "Module"):
        return _predict_module(data, model)
    if callable(getattr(model, "predict", None)):
        is_row = isinstance(data, np.ndarray) and data.ndim == 1
        return model.predict(data.reshape(1, -1) if is_row else data)
    if callable(model):
        return model(data)
    raise PredictionRaised(
        f"The script needs a predict_fn: its model is a {type(model).__name__}, which has no "
        "predict and can't be called."
    )


def default_output(prediction: object, accept: str | None) -> Answer:
    """Writes a prediction in the first accepted format.

    Raises:
        UnsupportedAccept: none is written here, or it can't be written in it.
    """
    chosen = choose_accept(accept, tuple(ENCODERS), "json")
    value = _as_plain(prediction)
    if chosen.name == "json":
        body = msgspec.json.encode(_for_json(value), enc_hook=_for_json)
    else:
        body = ENCODERS[chosen.name](_as_table(value, chosen.content_type))
    return Answer(body, chosen.content_type)


def memory_bytes(model: Any) -> int:  # noqa: ANN401 - whatever model_fn returned
    """What a model surely holds; 0 where it can't be told."""
    if _is(model, "torch.nn", "Module"):
        tensors = [*model.parameters(), *model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return 0


def _is(value: object, module: str, name: str) -> bool:
    """Whether this is an instance of a framework's class; imports nothing."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _width(model: Any) -> int | None:  # noqa: ANN401 - whatever model_fn returned
    if _is(model, "xgboost", "Booster"):
        return int(model.num_features())
    width = getattr(model, "n_features_in_", None)
    return int(width) if isinstance(width, (int, np.integer)) else None


def _predict_booster(data: Any, model: Any) -> Any:  # noqa: ANN401 - as default_predict
    xgboost: Any = sys.modules["xgboost"]
    if not isinstance(data, xgboost.DMatrix):
        is_plain = isinstance(data, (list, np.ndarray))
        data = xgboost.DMatrix(np.atleast_2d(data) if is_plain else data, nthread=1)
    best = model.attr("best_iteration") or ""
    end = min(int(best) + 1, model.num_boosted_rounds()) if best.isdigit() else 0  # 0: all of them
    return model.predict(data, iteration_range=(0, end), validate_features=False)


def _predict_module(data: Any, model: Any) -> Any:  # noqa: ANN401 - as default_predict
    torch: Any = sys.modules["torch"]
    if model.training and not _is(model, "torch.fx", "GraphModule"):  # which can't be switched
        model.eval()
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(np.array(data))
    if isinstance(data, torch.Tensor) and data.is_floating_point():
        floats = (weight.dtype for weight in model.parameters() if weight.is_floating_point())
        data = data.to(next(floats, data.dtype))
    with torch.inference_mode():
        return model(data)


def _as_plain(value: Any) -> Any:  # noqa: ANN401 - whatever predict_fn returned
    """An array where it can be one: of tensors, numpy's numbers, data frames."""
    if _is(value, "torch", "Tensor"):
        if value.dtype == sys.modules["torch"].bfloat16:  # numpy has none
            value = value.float()
        return value.numpy(force=True)
    return np.asarray(value) if hasattr(value, "__array__") else value


def _for_json(value: object) -> object:
    plain = _as_plain(value)
    if isinstance(plain, np.ndarray):
        return plain.tolist()
    if isinstance(plain, _JSON_TYPES):
        return plain
    raise TypeError(f"a {type(value).__name__} can't be written as JSON: define output_fn")


def _as_table(value: object, content_type: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in _WRITABLE_KINDS:
        raise UnsupportedAccept(
            f"The model's answer is a {type(value).__name__}, which can't be written as "
            f"{content_type}: accept application/json, or define output_fn."
        )
    return array

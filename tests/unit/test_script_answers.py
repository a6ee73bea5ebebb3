"""What a script sees of its request, what becomes of its answer, and what of its errors."""

from __future__ import annotations

import ast
import threading

import numpy as np
import pytest

from loaders.contract import Answer, LoadRefused
from loaders.printing import speaking
from tests.scripts import ask, load, told, write_script

SEEN = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return repr((data, content_type, accept))
"""


def seen(tmp_path, body, *headers):
    """What transform_fn was given."""
    model = load(write_script(tmp_path, SEEN))
    answer = ask(model, body, *headers)
    model.close()
    assert isinstance(answer, Answer), answer
    return ast.literal_eval(answer.body.decode())


def answered(tmp_path, source, *headers):
    """What transform_fn's body makes of a request."""
    lines = "".join(f"    {line}\n" for line in source.splitlines())
    head = "import numpy\ndef model_fn(d): return 1\ndef transform_fn(m, data, c, a, context):\n"
    model = load(write_script(tmp_path, head + lines))
    answer = ask(model, b"body", *headers)
    model.close()
    return answer


@pytest.mark.parametrize(
    ("body", "header", "given", "content_type"),
    [
        (b"1,2", "text/csv", "1,2", "text/csv"),
        (b"1,2", "Text/CSV; charset=UTF-8", "1,2", "text/csv"),
        ("é".encode("latin-1"), 'text/csv; charset="iso-8859-1"', "é", "text/csv"),
        ("é".encode(), "application/json;odata=verbose", "é", "application/json"),
        (b"{}", None, "{}", "application/json"),
        (b"", "text/csv", "", "text/csv"),
        (b"\xff\x00", "application/octet-stream", b"\xff\x00", "application/octet-stream"),
        (b"x", "image/PNG", b"x", "image/PNG"),
        (b"x", "text/plain; charset=utf-8", b"x", "text/plain; charset=utf-8"),
        (b"x", "multipart/form-data; boundary=Z", b"x", "multipart/form-data; boundary=Z"),
    ],
)
def test_text_reaches_a_script_as_text_and_all_else_as_bytes(
    tmp_path, body, header, given, content_type
):
    assert seen(tmp_path, body, header)[:2] == (given, content_type)


@pytest.mark.parametrize("header", ["text/csv", "text/csv; charset=ascii", "text/csv; charset=no"])
def test_text_that_is_none_is_an_unsupported_type(tmp_path, header):
    model = load(write_script(tmp_path, SEEN))
    assert ask(model, b"\xff", header).status == 415
    model.close()


@pytest.mark.parametrize(
    ("header", "default", "accept"),
    [
        (None, None, "application/json"),
        ("*/*", None, "application/json"),
        ("*/*;q=0.5", "text/csv", "text/csv"),
        (None, "application/x-npy, text/csv", "application/x-npy"),
        ("text/csv", "application/json", "text/csv"),
        ("text/csv, application/json", None, "text/csv"),
        ("application/json; charset=utf-8", None, "application/json"),
        ("application/*", None, "application/json"),
        ("image/png", None, "image/png"),
    ],
)
def test_a_script_is_told_the_first_type_accepted(tmp_path, monkeypatch, header, default, accept):
    if default:
        monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", default)
    assert seen(tmp_path, b"", "text/csv", header)[2] == accept


@pytest.mark.parametrize(
    ("returned", "accept", "body", "content_type"),
    [
        ("b'raw'", "image/png", b"raw", "image/png"),
        ("'text'", "text/csv, x/y", b"text", "text/csv"),
        ("bytearray(b'raw')", None, b"raw", "application/json"),
        ("(b'raw', 'image/gif')", "image/png", b"raw", "image/gif"),
        ("('text', 'text/plain; charset=utf-8')", None, b"text", "text/plain; charset=utf-8"),
        ("(numpy.ones(2), 'text/csv')", "image/png", b"1.0\n1.0\n", "text/csv"),
        ("numpy.ones((1, 2))", None, b"[[1.0,1.0]]", "application/json"),
        ("numpy.float32(0.5)", "text/csv", b"0.5\n", "text/csv"),
        ("[1, 'b', None]", None, b'[1,"b",null]', "application/json"),
        ("{'a': numpy.arange(2), 'b': float('nan')}", None, b'{"a":[0,1],"b":null}', None),
        ("(1, 2)", "application/jsonlines", b"1\n2\n", "application/jsonlines"),
        ("['yes', 'no']", "text/csv", b"yes\nno\n", "text/csv"),
        ("''", None, b"", "application/json"),
    ],
)
def test_what_a_script_returns_is_the_answer(tmp_path, returned, accept, body, content_type):
    answer = answered(tmp_path, f"return {returned}", "text/csv", accept)
    assert (answer.body, answer.content_type) == (body, content_type or "application/json")


def test_an_old_scripts_response_object_is_the_answer(tmp_path):
    source = """class Response:
    mimetype = "text/csv"
    def get_data(self): return b"1"
return Response()"""
    assert answered(tmp_path, source) == Answer(b"1", "text/csv")


@pytest.mark.parametrize(
    ("returned", "accept", "status"),
    [
        ("None", None, 500),
        ("object()", None, 500),
        ("numpy.ones(2)", "image/png", 406),
        ("{'a': 1}", "text/csv", 406),
        ("[[1], [1, 2]]", "text/csv", 406),
        ("('x', 'text/csv\\r\\nX: y')", None, 500),
        ("('x', 'é')", None, 500),
    ],
)
def test_what_cannot_be_sent_is_a_fault(tmp_path, returned, accept, status):
    assert answered(tmp_path, f"return {returned}", "text/csv", accept).status == status


def test_the_context_has_the_headers_whole_and_passes_custom_attributes_on(tmp_path):
    source = """context.set_response_header(0, "x-amzn-sagemaker-custom-attributes", "done")
context.set_response_content_type(0, "text/plain")
return repr([
    context.get_request_header(0, "content-type"), context.get_request_header("ACCEPT"),
    context.custom_attributes, context.get_all_request_header(0),
    context.request_processor[0].get_request_property("Accept"),
    context.system_properties.get("gpu_id"), context.system_properties["model_dir"],
])"""
    answer = answered(tmp_path, source, "text/csv; a=b", "text/csv, */*", "trace=1")
    assert (answer.content_type, answer.custom_attributes) == ("text/plain", "done")
    kind, accept, attributes, headers, again, gpu, directory = ast.literal_eval(
        answer.body.decode()
    )
    assert (kind, accept, attributes) == ("text/csv; a=b", "text/csv, */*", "trace=1")
    assert (again, gpu, directory) == (accept, None, str(tmp_path))
    assert headers == {
        "Content-Type": kind,
        "Accept": accept,
        "X-Amzn-SageMaker-Custom-Attributes": attributes,
    }


def test_headers_that_were_not_sent_are_none_and_nothing_is_sent_back(tmp_path):
    answer = answered(tmp_path, "return repr(context.get_request_header(0, 'Content-Type'))")
    assert (answer.body, answer.custom_attributes) == (b"None", None)


def test_a_status_that_is_an_error_makes_the_answer_one(tmp_path):
    fault = answered(tmp_path, "context.set_response_status(422, 'No')\nreturn 'not so'")
    assert (fault.status, str(fault)) == (422, "not so")


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        ("ValueError('no good')", 500, "ValueError: no good"),
        ("KeyError('x')", 500, "KeyError: 'x'"),
        ("Toolkit(422, 'unfit', 'Phrase')", 422, "unfit"),
        ("Web('teapot')", 418, "teapot"),
        ("Web()", 418, "Web"),
        ("Odd(200)", 500, "Odd: 200"),
        ("Odd('late')", 500, "Odd: late"),
        ("SystemExit(3)", 500, "SystemExit: 3"),
        ("KeyboardInterrupt()", 500, "KeyboardInterrupt: "),
        ("MemoryError()", 507, "The worker is out of memory."),
        ("RuntimeError('x' * 5000)", 500, "RuntimeError: " + "x" * 986),
        ("RuntimeError('half \\ud800')", 500, "RuntimeError: half ?"),
        ("FileNotFoundError(2, 'No', __file__)", 500,
         "FileNotFoundError: [Errno 2] No: '/opt/ml/model/code/inference.py'"),
    ],
)  # fmt: skip
def test_what_a_script_raises_is_the_answer_without_a_traceback(tmp_path, raised, status, message):
    source = f"""
class Toolkit(Exception):
    def __init__(self, status_code, message, phrase):
        self.status_code, self.message, self.phrase = status_code, message, phrase
class Web(Exception):
    status = 418
class Odd(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status
def model_fn(d): return 1
def transform_fn(m, data, c, a):
    if data: raise {raised}
    return b"fine"
"""
    model = load(write_script(tmp_path, source))
    log = []
    with speaking(log.append):
        fault = ask(model, b"x", "text/csv")
        assert ask(model, b"", "text/csv").body == b"fine"
    assert (fault.status, str(fault)) == (status, message)
    if status == 500:
        assert log[0].startswith("Traceback")
        assert "inference.py" in log[1]  # its own lines first: none of ours
    else:
        assert log == []
    model.close()


@pytest.mark.parametrize("function", ["pre_model_fn", "model_fn", "model_warmup_fn"])
def test_what_is_raised_while_loading_names_the_function(tmp_path, function):
    parameters = "a, b" if function == "model_warmup_fn" else "a"
    defined = "def model_fn(d): return 1\n" if function != "model_fn" else ""
    write_script(tmp_path, f"{defined}def {function}({parameters}): raise ValueError('no')")
    with pytest.raises(
        LoadRefused, match=rf"^Unable to load model: {function} raised ValueError: no$"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (", r"inference\.py raised SyntaxError: .*inference\.py, line 1"),
        ("1 / 0", r"inference\.py raised ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('bye')", r"inference\.py raised SystemExit: bye"),
        ("\0", r"inference\.py raised .*null bytes"),
        ("def model_fn(): pass", r"takes 0 .*\(model_dir\) or model_fn\(model_dir, context\)"),
        ("def predict_fn(a, b, c, d): pass", "predict_fn in its script takes 4 parameters"),
        ("def output_fn(*a, b): pass", "output_fn in its script takes 0 parameters"),
        ("input_fn = 3", "input_fn in its script is not a function"),
        ("input_fn = map", "input_fn in its script takes"),
        ("def transform_fn(a, b, c, d): pass\ndef input_fn(a, b): pass",
         "defines transform_fn and input_fn, which transform_fn replaces"),
        ("def handler(data, context): pass", "defines handler, which only TensorFlow"),
    ],
)  # fmt: skip
def test_a_script_that_cannot_serve_is_refused_when_it_is_loaded(tmp_path, source, message):
    with pytest.raises(LoadRefused, match=message):
        load(write_script(tmp_path, source))


def test_functions_run_in_order_with_and_without_the_context(tmp_path):
    source = """
calls = []
def pre_model_fn(model_dir{0}): calls.append("before")
def model_fn(model_dir{0}):
    calls.append(model_dir)
    return "model"
def model_warmup_fn(model_dir, model{0}): calls.append(("warm", model))
def input_fn(data, content_type="x"{1}):
    calls.append("in")
    return data
def predict_fn(data, model{0}):
    calls.append(("predict", data, model))
    return data
def output_fn(prediction, accept{0}): return repr(calls)
"""
    for with_context in (("", ""), (", context", ", context=None")):
        model = load(write_script(tmp_path, source.format(*with_context)))
        calls = ast.literal_eval(ask(model, b"1", "text/csv").body.decode())
        assert calls == [
            "before", str(tmp_path), ("warm", "model"), "in", ("predict", "1", "model"),
        ]  # fmt: skip
        model.close()


def test_the_context_says_where_the_model_is_while_it_is_loaded(tmp_path):
    source = """
def model_fn(model_dir, context):
    assert context.get_request_header(0, "Accept") is None
    return context.system_properties["model_dir"]
def predict_fn(data, model): return model
"""
    model = load(write_script(tmp_path, source))
    assert told(model, b"1") == str(tmp_path)
    model.close()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("lambda rows: rows * 2", [[2.0, 4.0]]),
        ("Estimator()", [3.0]),
        ("{'a': 1}", "The script needs a predict_fn: its model is a dict"),
    ],
)
def test_a_model_of_no_framework_is_asked_as_it_can_be(tmp_path, made, expected):
    source = f"""
class Estimator:
    def predict(self, rows): return rows.sum(axis=1)
def model_fn(model_dir): return {made}
"""
    model = load(write_script(tmp_path, source))
    if isinstance(expected, str):
        fault = ask(model, b"[[1, 2]]")
        assert fault.status == 500
        assert str(fault).startswith(expected)
    else:
        assert told(model, b"[[1, 2]]") == expected
    model.close()


def test_a_flat_list_is_one_row_to_an_estimator_and_an_empty_body_is_refused(tmp_path):
    source = """
class Estimator:
    n_features_in_ = 3
    def predict(self, rows): return [list(rows.shape), rows.tolist()]
def model_fn(model_dir): return Estimator()
"""
    model = load(write_script(tmp_path, source))
    assert told(model, b"[1, 2, 3]") == [[1, 3], [[1.0, 2.0, 3.0]]]
    assert told(model, b"1:5", "text/libsvm") == [[1, 3], [[5.0, 0.0, 0.0]]]
    assert ask(model, b" ").status == 400
    assert ask(model, b"x", "image/png").status == 415
    model.close()


def test_what_a_script_prints_while_loading_and_predicting_is_heard(tmp_path):
    source = """
print("imported")
def model_fn(model_dir): print("loaded")
def transform_fn(m, data, c, a):
    print("asked", data)
    return data
"""
    heard = []
    with speaking(heard.append):
        model = load(write_script(tmp_path, source))
        thread = threading.Thread(target=ask, args=(model, b"aside", "text/csv"))
        thread.start()
        thread.join()
        ask(model, b"here", "text/csv")
        model.close()
    assert heard == ["imported", "loaded", "asked here"]


def test_a_closed_model_answers_with_a_fault(tmp_path):
    model = load(write_script(tmp_path, SEEN))
    model.close()
    assert ask(model, b"").status == 500


def test_bfloat16_tensors_can_be_answered(tmp_path):
    answer = answered(tmp_path, "import torch\nreturn torch.ones(2, dtype=torch.bfloat16)")
    np.testing.assert_array_equal(ast.literal_eval(answer.body.decode()), [1.0, 1.0])

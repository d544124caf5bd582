import functools
import sys

import pytest

from modelyard.core.errors import UserCodeError
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model import user_functions
from modelyard.serving.model.user_functions import UserFunctions, with_context

CONTEXT = object()


class CallableObject:
    def __call__(self, data, model, context):
        return data, model, context


def optional_context(data, model, context=None):
    return data, model, context


def load(model, program=""):
    folder = model_folder.find(model.path, None, model.path.parent, program=program)
    return user_functions.load(folder)


def called(function, name="predict_fn", slots=2):
    return with_context(function, name, slots)(*"abcd"[:slots], CONTEXT)


# Section by section what sagemaker-inference does, but for the last three of the second table.
@pytest.mark.parametrize(
    "function",
    [
        lambda d, m, context: (d, m, context),
        lambda d, m, anything: (d, m, anything),
        lambda d, m, context=None: (d, m, context),
        lambda d, m, *, context: (d, m, context),
        lambda d, m, *, context=None: (d, m, context),
        lambda d, m, context, /: (d, m, context),
        lambda d, m, x, threshold=0.5: (d, m, x) if threshold == 0.5 else None,
        lambda d, m, context=None, *rest, **more: (d, m, context),
        CallableObject(),
        CallableObject().__call__,
        functools.partial(lambda extra, d, m, c: (d, m, c), "extra"),
        functools.partial(lambda d, m, c, extra: (d, m, c), extra=1),
        functools.lru_cache(optional_context),
    ],
)
def test_handed_the_context(function):
    assert called(function) == ("a", "b", CONTEXT)


@pytest.mark.parametrize(
    "function",
    [
        lambda d, m: (d, m),
        lambda d, m=None: (d, m),
        lambda d=None, m=None: (d, m),
        lambda d, /, m: (d, m),
        lambda d, context: (d, context),
        lambda *a: a,
        lambda d, *a: (d, *a),
        lambda d, m, *a: (d, m, *a),
        lambda d, m, threshold=0.5: (d, m) if threshold == 0.5 else None,
        lambda d, m, threshold=0.5, context=None: (d, m) if (threshold, context) == (0.5, None) else None,
        lambda d, m, **kw: (d, m) if not kw else None,
        lambda d, m, *, threshold=0.5: (d, m) if threshold == 0.5 else None,
        functools.partial(lambda d, m, threshold: (d, m), threshold=1),
    ],
)
def test_not_handed_the_context(function):
    assert called(function) == ("a", "b")


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda d: None,
        lambda d, m, context, extra: None,
        lambda d, *, context: None,
        lambda d, m, *, threshold: None,
        lambda d, m, c, *, threshold: None,
        lambda **kw: None,
    ],
)
def test_what_cannot_be_called_is_refused_by_name(function):
    with pytest.raises(
        UserCodeError, match=r"^predict_fn\(.*\) does not fit: it is called with 2 arguments, or with 3"
    ):
        with_context(function, "predict_fn", 2)


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}])
def test_what_is_not_a_function_is_refused(value):
    with pytest.raises(UserCodeError, match="input_fn must be a function"):
        with_context(value, "input_fn", 2)


class AsyncObject:
    async def __call__(self, data, model):
        return data, model


async def async_function(data, model, context):
    return data, model, context


async def async_generator(data, model):
    yield data
    yield model


def test_async_functions_of_every_kind_are_awaited():
    assert called(async_function) == ("a", "b", CONTEXT)
    assert called(AsyncObject()) == ("a", "b")
    assert called(functools.partial(async_function, "x"), slots=1) == ("x", "a", CONTEXT)
    assert list(called(async_generator)) == ["a", "b"]


@pytest.mark.parametrize(("name", "slots"), [("model_fn", 1), ("transform_fn", 4)])
def test_the_other_slots(name, slots):
    assert called(lambda *a: a, name, slots) == tuple("abcd"[:slots])
    assert called(lambda *a, context: (*a, context), name, slots) == (*"abcd"[:slots], CONTEXT)


# -- finding and importing ---------------------------------------------------------------------


def test_without_a_script_everything_is_default(model):
    model.write("model.pt")
    assert load(model) == UserFunctions()


@pytest.mark.parametrize("place", ["code/inference.py", "inference.py"])
def test_the_script_is_in_code_or_on_top(model, place):
    model.script("def model_fn(model_dir): return model_dir", place)
    assert load(model).model_fn("here", CONTEXT) == "here"


def test_code_wins_over_the_top(model):
    model.script("def model_fn(model_dir): return 'code'")
    model.script("def model_fn(model_dir): return 'top'", "inference.py")
    assert load(model).model_fn("", CONTEXT) == "code"


@pytest.mark.parametrize("program", ["serve.py", "serve", "pkg/serve.py"])
def test_a_program_that_is_named(model, program):
    path = f"code/{program.removesuffix('.py')}.py"
    model.script("def model_fn(model_dir): return __name__", path)
    assert load(model, program).model_fn("", CONTEXT) == "serve"


@pytest.mark.parametrize("program", ["serve.py", "inference.py", "my_model/serve.py"])
def test_a_program_that_is_named_and_missing_is_an_error_with_advice(model, program):
    model.script("", "code/other.py")
    with pytest.raises(
        UserCodeError, match=rf"^{program} is neither in code/ .*tar czvf \.\./model\.tar\.gz \*"
    ):
        load(model, program)


def test_a_program_that_is_not_python(model):
    model.script("", "code/serve.sh")
    with pytest.raises(UserCodeError, match=r"serve.sh is not a Python file"):
        load(model, "serve.sh")


def test_siblings_and_packages_are_imported(model):
    model.script("WORD = 'sibling'", "code/sibling_of_it.py")
    model.script("WORD = 'package'", "code/package_of_it/word.py")
    model.script(
        """
        import sibling_of_it
        from package_of_it import word

        def model_fn(model_dir):
            return sibling_of_it.WORD, word.WORD
        """
    )
    assert load(model).model_fn("", CONTEXT) == ("sibling", "package")


def test_a_program_in_a_folder_sees_both_its_folder_and_code(model):
    model.script("WORD = 'beside'", "code/pkg/beside_it.py")
    model.script("WORD = 'above'", "code/above_it.py")
    model.script(
        "import beside_it, above_it\ndef model_fn(d): return beside_it.WORD, above_it.WORD",
        "code/pkg/serve.py",
    )
    assert load(model, "pkg/serve.py").model_fn("", CONTEXT) == ("beside", "above")


def test_a_class_of_the_script_can_be_found_by_its_module(model):
    model.script("import pickle\nclass Net: pass\ndef model_fn(d): return pickle.loads(pickle.dumps(Net()))")
    assert type(load(model).model_fn("", CONTEXT)).__name__ == "Net"


def test_a_program_called_like_an_imported_module_does_not_replace_it(model):
    import json

    model.script("def model_fn(model_dir): return __name__", "code/json.py")
    assert load(model, "json.py").model_fn("", CONTEXT) == "modelyard_user_json"
    assert sys.modules["json"] is json


@pytest.mark.parametrize("value", ["None", "False", "0", "''", "[]"])
def test_what_is_falsy_is_absent(model, value):
    model.script(f"model_fn = input_fn = predict_fn = output_fn = transform_fn = {value}")
    assert load(model) == UserFunctions()


def test_transform_fn_does_the_three_steps(model):
    model.script("def transform_fn(model, body, content_type, accept): pass\ninput_fn = None")
    assert load(model).transform_fn is not None


@pytest.mark.parametrize("other", ["input_fn", "predict_fn", "output_fn"])
def test_transform_fn_and_one_of_the_three_steps_do_not_go_together(model, other):
    model.script(f"def transform_fn(model, body, content_type, accept): pass\ndef {other}(a, b): pass")
    with pytest.raises(UserCodeError, match=rf"inference.py defines transform_fn and {other}:"):
        load(model)


def test_a_function_with_the_wrong_arguments_is_named(model):
    model.script("def output_fn(prediction): pass")
    with pytest.raises(UserCodeError, match=r"^output_fn\(prediction\) does not fit"):
        load(model)

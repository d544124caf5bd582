"""Both layouts of a model archive, and each mistake of packaging that SageMaker's pages list."""

import logging
import shutil
import subprocess

import pytest

from modelyard.core.errors import PackagingError, UserCodeError
from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model.folder import ModelFolder
from modelyard.testing.trees import names_in, write_tree

HOW_TO_PACK = r"cd my_model && tar czvf \.\./model\.tar\.gz \*.* tar tvf model\.tar\.gz"


@pytest.fixture
def own(tmp_path):
    return tmp_path / "endpoint"


@pytest.fixture
def find(tmp_path, own):
    """Look through a model folder that holds these files, each with its own name in it."""

    def look(*names, **options):
        root = tmp_path / "model"
        root.mkdir(exist_ok=True)
        write_tree(root, {name: name.encode() for name in names})
        return model_folder.find(root, TarballPackager().unpack, own, **options)

    return look


@pytest.fixture
def source(tmp_path):
    """Make ``sourcedir.tar.gz``, anywhere."""

    def pack(*names, at=tmp_path / "submitted" / "sourcedir.tar.gz"):
        folder = write_tree(tmp_path / "source", {name: name.encode() for name in names})
        at.parent.mkdir(parents=True, exist_ok=True)
        TarballPackager().pack_tree(folder, at)
        shutil.rmtree(folder)
        return at

    return pack


# -- layouts -----------------------------------------------------------------------------------


def test_code_beside_the_models_files(find, tmp_path):
    found = find("model.pth", "code/inference.py", "code/requirements.txt")
    root = tmp_path / "model"
    code = root / "code"
    assert found == ModelFolder(root, code, code / "inference.py", code / "requirements.txt")
    assert found.import_path == (code,)


def test_a_script_among_the_models_files(find, tmp_path):
    root = tmp_path / "model"
    found = find("model.pth", "inference.py", "requirements.txt")
    assert found == ModelFolder(root, root, root / "inference.py", root / "requirements.txt")


def test_a_model_without_code(find, tmp_path):
    root = tmp_path / "model"
    assert find("model.pth", "requirements.txt", "util.py") == ModelFolder(root, root)


def test_code_that_holds_only_requirements(find, tmp_path):
    code = tmp_path / "model" / "code"
    found = find("model.pt", "code/requirements.txt")
    assert (found.program, found.requirements) == (None, code / "requirements.txt")


def test_requirements_that_ask_for_nothing(find, tmp_path):
    write_tree(tmp_path / "model", {"code/requirements.txt": b"# torch\n\n"})
    assert find("code/inference.py").requirements is None


def test_requirements_beside_code_are_not_installed_and_a_warning_says_where_they_belong(find, caplog):
    with caplog.at_level(logging.WARNING, "modelyard"):
        assert find("code/inference.py", "requirements.txt").requirements is None
    assert "move it into code/" in caplog.text


def test_code_wins_over_the_top(find, tmp_path):
    assert find("inference.py", "code/inference.py").program == tmp_path / "model" / "code" / "inference.py"


def test_an_archive_from_the_parent_is_unwrapped_with_a_warning(find, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "modelyard"):
        found = find("my_model/model.pth", "my_model/code/inference.py", "._my_model", ".DS_Store")
    root = tmp_path / "model" / "my_model"
    assert (found.root, found.program) == (root, root / "code" / "inference.py")
    assert "made from the parent" in caplog.text
    assert "my_model" in caplog.text


def test_code_alone_is_no_parent(find, tmp_path):
    assert find("code/inference.py").root == tmp_path / "model"


@pytest.mark.parametrize("spelled", ["{}", "file://{}"])
def test_code_that_is_submitted_beside_the_model(find, source, own, tmp_path, spelled):
    archive = source("script.py", "requirements.txt")
    found = find("model.pth", program="script.py", submitted=spelled.format(archive))
    assert found.root == tmp_path / "model"
    assert found.code.parent == own
    assert (found.program, found.requirements) == (found.code / "script.py", found.code / "requirements.txt")
    assert names_in(found.root) == ["model.pth"]
    assert names_in(archive.parent) == ["sourcedir.tar.gz"]


def test_code_that_lies_in_the_model_folder_as_an_archive(find, source, own, tmp_path):
    source("inference.py", at=tmp_path / "model" / "sourcedir.tar.gz")
    found = find("model.pth")
    assert found.program == found.code / "inference.py"
    assert found.code.parent == own
    assert names_in(found.root) == ["model.pth", "sourcedir.tar.gz"]


def test_code_that_is_submitted_as_a_folder_is_used_in_place(find, tmp_path):
    folder = write_tree(tmp_path / "mounted", {"script.py": b""})
    found = find("model.pth", program="script", submitted=str(folder))
    assert (found.code, found.program) == (folder, folder / "script.py")


def test_a_second_look_finds_the_code_that_is_unpacked(find, source):
    submitted = str(source("inference.py"))
    first = find("model.pth", submitted=submitted)
    (first.code / "mark").touch()
    assert find(submitted=submitted) == first
    assert (first.code / "mark").exists()
    assert find(submitted=str(source("inference.py", "new.py"))).code != first.code


def test_a_model_that_is_one_folder_stays_wrapped_where_the_code_is_submitted(find, source, tmp_path):
    found = find("weights/model.bin", submitted=str(source("inference.py")))
    assert found.root == tmp_path / "model"


def test_code_in_the_archive_makes_what_is_submitted_superfluous(find, source, tmp_path):
    for submitted in (str(source("inference.py")), "s3://bucket/sourcedir.tar.gz", "/opt/ml/model/code"):
        assert find("code/inference.py", submitted=submitted).code == tmp_path / "model" / "code"


def test_the_models_own_folder_may_be_named_as_sdk_v2_does(find, tmp_path):
    root = tmp_path / "model"
    for submitted in ("/opt/ml/model/code", f"file://{root}/code", str(root)):
        assert find("inference.py", "model.pth", submitted=submitted).code == root


def test_code_that_was_submitted_elsewhere_is_an_error(find):
    with pytest.raises(
        UserCodeError, match=r"^SAGEMAKER_SUBMIT_DIRECTORY is 's3://b/sourcedir.tar.gz', .* not on"
    ):
        find("model.pth", submitted="s3://b/sourcedir.tar.gz")


def test_an_archive_of_code_that_is_not_there_is_an_error(find, tmp_path):
    with pytest.raises(UserCodeError, match=r"sourcedir.tar.gz', which does not exist$"):
        find("model.pth", submitted=str(tmp_path / "sourcedir.tar.gz"))


def test_a_damaged_archive_of_code_is_an_error_and_leaves_nothing(find, own):
    with pytest.raises(PackagingError, match="sourcedir.tar.gz"):
        find("model.pth", "sourcedir.tar.gz")
    assert names_in(own) == []


# -- the program -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["serve.py", "serve"])
@pytest.mark.parametrize("place", ["code/", ""])
def test_a_program_that_is_named(find, tmp_path, program, place):
    found = find(f"{place}serve.py", "code/inference.py", program=program)
    assert found.program == tmp_path / "model" / place / "serve.py"


@pytest.mark.parametrize("program", ["sub/serve.py", "sub/serve"])
def test_a_program_in_a_folder_sees_both_its_folder_and_code(find, tmp_path, program):
    code = tmp_path / "model" / "code"
    found = find("code/sub/serve.py", program=program)
    assert found.program == code / "sub" / "serve.py"
    assert found.import_path == (code / "sub", code)


def test_a_program_without_its_ending_is_the_python_file(find, tmp_path):
    assert find("code/serve", "code/serve.py", program="serve").program.suffix == ".py"


@pytest.mark.parametrize("program", ["serve.sh", "run"])
def test_a_program_that_is_not_python_is_an_error(find, program):
    with pytest.raises(UserCodeError, match=rf"^{program} is not a Python file"):
        find(f"code/{program}", program=program)


# -- the mistakes of packaging -----------------------------------------------------------------

MISTAKES = {
    "a wrong name of the entry point": (
        ["model.pth", "code/inference.py"],
        "inferense.py",
        r"inferense.py is neither in code/ nor .* did you mean 'inference.py'\? .* by entry_point",
    ),
    "no script of any name": (
        ["model.pth"],
        "serve.py",
        r"serve.py is neither in code/ nor at the top of the model archive, and no other Python file is",
    ),
    "code without inference.py": (
        ["model.pth", "code/predict.py"],
        "",
        r"inference.py is neither in code/ nor .* Known: predict.py. Name the one that is meant by",
    ),
    "code in code": (
        ["model.pth", "code/code/inference.py"],
        "inference.py",
        r"inference.py is neither in code/ .*: it is deeper, at code/inference.py in there. Move it up",
    ),
    "code in code, not named": (
        ["model.pth", "code/code/inference.py"],
        "",
        r"it is deeper, at code/inference.py in there. .* SAGEMAKER_PROGRAM=code/inference.py",
    ),
    "a parent with something beside it": (
        ["my_model/model.pth", "my_model/code/inference.py", "README.md"],
        "",
        r"inference.py is neither in code/ .*: it is at my_model/code/inference.py",
    ),
    "a parent to which code was added": (
        ["my_model/model.pth", "my_model/serve.py", "code/requirements.txt"],
        "serve",
        r"serve is neither in code/ .*: it is at my_model/serve.py",
    ),
    "a script in a folder of another name": (
        ["model.pth", "src/inference.py"],
        "",
        r"inference.py is neither in code/ .*: it is at src/inference.py",
    ),
    "nothing": ([], "", r"the model archive is empty"),
    "nothing but what macOS adds": ([".DS_Store", "__MACOSX/x"], "", r"the model archive is empty"),
    "an archive inside the archive": (
        ["model.tar.gz"],
        "inference.py",
        r"holds nothing but model.tar.gz, an archive inside the archive: unpack it",
    ),
    "an archive in the folder of the archive": (
        ["my_model/model.zip"],
        "",
        r"holds nothing but model.zip, an archive inside the archive",
    ),
}


@pytest.mark.parametrize(("names", "program", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_the_pages_advice(find, names, program, said):
    with pytest.raises(UserCodeError, match=rf"^.*{said}.*{HOW_TO_PACK}$"):
        find(*names, program=program)


def test_a_mistake_in_the_archive_of_the_code(find, source):
    submitted = str(source("my_source/script.py"))
    with pytest.raises(
        UserCodeError, match=r"^script.py is neither in sourcedir.tar.gz .* at my_source/script.py"
    ):
        find("model.pth", program="script.py", submitted=submitted)


def test_no_model_folder_at_all(tmp_path, own):
    with pytest.raises(UserCodeError, match=r"^there is no model: the folder '.*/absent' does not exist$"):
        model_folder.find(tmp_path / "absent", TarballPackager().unpack, own)


def test_the_advice_is_right(find, tmp_path):
    """What the messages tell the user to run makes an archive that is served."""
    write_tree(tmp_path / "made" / "my_model", {"model.pth": b"", "code/inference.py": b""})
    script = "cd my_model && tar czvf ../model.tar.gz *"
    assert script in model_folder.HOW_TO_PACK
    subprocess.run(["sh", "-c", script], cwd=tmp_path / "made", check=True, capture_output=True)
    TarballPackager().unpack(tmp_path / "made" / "model.tar.gz", tmp_path / "model")
    assert find().program == tmp_path / "model" / "code" / "inference.py"


# -- a file that the user's code does not find -------------------------------------------------


def failing_to_open(path):
    try:
        path.open()
    except OSError as error:
        return error
    raise AssertionError(f"{path} is there")


def test_a_file_that_lies_elsewhere_in_the_archive_is_pointed_out(find):
    found = find("my_model/model.pth", "code/inference.py")
    said = found.advice(failing_to_open(found.root / "model.pth"))
    assert said.startswith("; there is my_model/model.pth. The archive must hold")


def test_no_advice_where_there_is_none(find, tmp_path):
    found = find("model.pth", "code/inference.py")
    errors = (
        failing_to_open(found.root / "other.pth"),
        ValueError("model.pth"),
        FileNotFoundError("model.pth"),
    )
    assert [found.advice(error) for error in errors] == [""] * 3

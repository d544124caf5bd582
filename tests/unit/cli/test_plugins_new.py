"""``modelyard plugins new``: names, and what is never overwritten. That it works: tests/integration."""

import pytest

from modelyard.cli import main
from modelyard.cli.plugins.new import MIDDLEWARE, check_name, facts_of, skeleton
from modelyard.core.errors import InvalidPlanError
from modelyard.core.kinds import KINDS

EVERY_KIND = (*(kind.word for kind in KINDS), MIDDLEWARE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_it_says_what_it_wrote_and_what_comes_next(plugins, folder, capsys):
    assert main(["plugins", "new", "codec", "my_yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "modelyard-my-yaml: the codec 'my_yaml', as the distribution modelyard-my-yaml"
    written = names_below(folder / "modelyard-my-yaml")
    assert (
        sorted(line.strip() for line in lines[1:8])
        == written
        == [
            "README.md",
            "pyproject.toml",
            "src/modelyard_my_yaml/__init__.py",
            "src/modelyard_my_yaml/codec.py",
            "src/modelyard_my_yaml/plugin.py",
            "src/modelyard_my_yaml/py.typed",
            "tests/test_my_yaml.py",
        ]
    )
    assert lines[-4:] == [
        "  cd modelyard-my-yaml",
        "  python -m pip install -e '.[test]'",
        "  python -m pytest",
        "  modelyard plugins show my_yaml",
    ]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_nothing_is_left_to_fill_in(kind):
    files = dict(skeleton(kind, facts_of(kind, "some_name")))
    for name, content in files.items():
        assert "$" not in content.replace("\n$ ", ""), name
        assert not [word for word in ("TODO", "FIXME", "NotImplementedError", "...\n") if word in content], (
            name
        )
        if name.endswith(".py"):
            compile(content, name, "exec")
    assert "SomeName" in "".join(files.values()) or kind == MIDDLEWARE


def test_it_goes_where_it_is_told(plugins, folder):
    (folder / "empty").mkdir()
    assert main(["plugins", "new", "launcher", "rocket", "--directory", "empty"]) == 0
    assert main(["plugins", "new", "launcher", "rocket", "--directory", "deep/er"]) == 0
    assert names_below(folder / "empty") == names_below(folder / "deep/er")


def test_nothing_is_overwritten(plugins, folder, capsys):
    there = folder / "modelyard-yaml"
    there.mkdir()
    (there / "README.md").write_text("mine")
    assert main(["plugins", "new", "codec", "yaml"]) == 1
    assert "'modelyard-yaml' is there already: give another place with --directory" in capsys.readouterr().err
    assert names_below(folder) == ["modelyard-yaml/README.md"]
    assert (there / "README.md").read_text() == "mine"


def test_a_file_is_no_place_for_it(plugins, folder, capsys):
    (folder / "file").write_text("mine")
    assert main(["plugins", "new", "codec", "yaml", "--directory", "file"]) == 1
    assert main(["plugins", "new", "codec", "yaml", "--directory", "file/below"]) == 1
    assert capsys.readouterr().err.count("modelyard: 'file") == 2
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("codec", "Yaml", "letters, digits and underscores, and begins with a letter, as 'yaml'"),
        ("codec", "my-codec", "as 'my_codec'"),
        ("codec", "2yaml", "as 'yaml'"),
        ("codec", "größe", "lower-case letters"),
        ("codec", "../evil", "as 'evil'"),
        ("codec", "a.b", "as 'a_b'"),
        ("codec", "", "begins with a letter"),
        ("codec", "yaml\n", "as 'yaml'"),
        ("codec", "lambda", "'lambda' is a word of Python's own"),
        ("codec", "csv", "there is a codec called 'csv' already, of modelyard"),
        ("launcher", "torchrun", "there is a launcher called 'torchrun' already, of modelyard"),
        ("codec", "backends", "there is a plugin called 'backends' already, of modelyard"),
        ("middleware", "storage", "there is a plugin called 'storage' already, of modelyard"),
        ("storage", "zipfile", "'zipfile' is a module of Python's own"),
    ],
)
def test_names_that_cannot_be(plugins, kind, name, said):
    with pytest.raises(InvalidPlanError, match=said):
        check_name(kind, name, plugins)


@pytest.mark.parametrize(("kind", "name"), [("codec", "yaml"), ("storage", "my_nas2"), ("launcher", "cpu")])
def test_names_that_can_be(plugins, kind, name):
    check_name(kind, name, plugins)


def test_a_name_that_cannot_be_writes_nothing(plugins, folder, capsys):
    assert main(["plugins", "new", "codec", "csv"]) == 1
    assert capsys.readouterr().err.startswith("modelyard: there is a codec called 'csv' already")
    assert names_below(folder) == []


def test_a_kind_that_there_is_not(capsys):
    with pytest.raises(SystemExit):
        main(["plugins", "new", "codecs", "yaml"])
    assert "invalid choice: 'codecs'" in capsys.readouterr().err

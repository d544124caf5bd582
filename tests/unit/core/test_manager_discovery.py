"""Finding what is installed: the same as ``importlib.metadata`` finds, without the time that it takes."""

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution

import pytest

from modelyard.core import discovery

ENTRIES = {
    "one plugin": "[modelyard]\nacme = acme_codecs\n",
    "several": "[modelyard]\nb = acme_codecs.b\na = acme_codecs.a:plugin\n",
    "other groups too": "[console_scripts]\nacme = acme:main\n\n[modelyard]\nacme=acme\n[gui_scripts]\ng=x\n",
    "a group that starts like ours": "[modelyard.other]\nx = y\n\n[modelyard]\n\nacme = acme\n",
    "an extra and blanks": "[modelyard]\n  acme  =  acme_codecs.plugin : Plugin.made [fast]  \n",
    "comments": "# first\n[modelyard]\n# acme = no\nacme = acme\n",
    "a semicolon, which starts no comment": "[modelyard]\n;odd = odd\n ; odder = odd\nacme = acme\n",
    "brackets that make no group": "[modelyard]\n[odd = odd\nacme = acme[fast]\n[a=b]\nno = no\n",
    "Windows lines": "[modelyard]\r\nacme = acme\r\n",
    "nothing": "[modelyard]\n",
}


class Folder:
    """A folder with the metadata of distributions, as installers leave it behind."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def add(self, name="acme-codecs", version="1.2", entries=ENTRIES["one plugin"], form="{}-{}.dist-info"):
        info = self.path / form.format(name.replace("-", "_"), version)
        info.mkdir(parents=True)
        metadata = "METADATA" if form.endswith("dist-info") else "PKG-INFO"
        (info / metadata).write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: of the text\n"
        )
        (info / "entry_points.txt").write_bytes(entries.encode())
        return info


@pytest.fixture
def path(monkeypatch):
    """Have nothing on the path but what a test puts there."""
    path = []
    monkeypatch.setattr(sys, "path", path)
    return path


@pytest.fixture
def folder(tmp_path, path):
    folder = Folder(tmp_path / "site")
    path.append(str(folder.path))
    return folder


def described(found):
    return sorted((each.name, each.distribution, each.version, each.package) for each in found)


def both(path):
    """Return what is found, having seen that it is what ``importlib.metadata`` finds."""
    own = described(discovery._from_folders(path))
    assert own == described(discovery._from_metadata())
    assert described(discovery.installed()) == own
    return own


@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("form", ["{}-{}.dist-info", "{}-{}.egg-info", "{}.egg-info", "{}-{}.egg/EGG-INFO"])
def test_entry_points_are_read(folder, path, entries, form):
    info = folder.add(entries=entries, form=form)
    if form.endswith("EGG-INFO"):
        path[:] = [str(info.parent)]
    found = both(path)
    assert {each[1:3] for each in found} <= {("acme-codecs", "1.2")}
    assert bool(found) == ("=" in entries)


def test_of_two_distributions_of_one_name_the_first_on_the_path_counts(tmp_path, folder, path):
    folder.add(version="2.0", name="Acme.codecs")
    later = Folder(tmp_path / "later")
    later.add(version="1.0", name="acme_Codecs")
    later.add(version="1.0", name="other", entries="[modelyard]\nother = other\n")
    path += [str(later.path), str(tmp_path / "missing"), ""]
    assert [each[:3] for each in both(path)] == [("acme", "Acme.codecs", "2.0"), ("other", "other", "1.0")]


@pytest.mark.parametrize("name", ["acme__codecs", "acme._.codecs", "ACME.codecs"])
def test_names_that_differ_by_dots_and_underscores_are_one(tmp_path, folder, path, name):
    folder.add(name="acme_codecs", version="2.0")
    later = Folder(tmp_path / "later")
    (later.path / f"{name}-1.0.dist-info").mkdir()
    (later.path / f"{name}-1.0.dist-info" / "entry_points.txt").write_text("[modelyard]\nodd = odd\n")
    path.append(str(later.path))
    assert [each[:3] for each in both(path)] == [("acme", "acme_codecs", "2.0")]


class TestAnEgg:
    def test_is_known_by_its_metadata(self, tmp_path, folder, path):
        """Its folder may be called anything."""
        egg = folder.add(form="other.egg/EGG-INFO").parent
        later = Folder(tmp_path / "later")
        later.add(name="acme_codecs", version="1.0")
        later.add(name="other", entries="[modelyard]\nother = other\n")
        path[:] = [str(egg), str(later.path)]
        assert [each[:2] for each in both(path)] == [("acme", "acme-codecs"), ("other", "other")]

    def test_counts_after_what_else_is_in_its_folder(self, folder, path):
        egg = folder.add(form="acme.egg/EGG-INFO").parent
        info = folder.add(version="3.0")
        info.rename(egg / info.name)
        path[:] = [str(egg)]
        assert [each[:3] for each in both(path)] == [("acme", "acme-codecs", "3.0")]

    @pytest.mark.parametrize("form", ["EGG-INFO", "x_egg-info", "x-egg-info"])
    def test_is_none_by_the_name_of_its_metadata_alone(self, tmp_path, folder, path, form):
        """Such a folder hides no distribution of its name."""
        folder.add(form=form, entries="[modelyard]\nodd = odd\n")
        later = Folder(tmp_path / "later")
        for name in ("site", "x_egg", "x"):
            later.add(name=name, entries=f"[modelyard]\n{name} = {name}\n")
        path.append(str(later.path))
        assert [each[0] for each in both(path)] == ["site", "x", "x_egg"]


@pytest.mark.parametrize(
    "headers",
    [
        "Metadata-Version: 2.1\nSummary: long\n  and folded\n\tName: odd\nName: acme\nVersion: 3\n",
        "Summary: long\n  \n   Version: 9\nName: acme\nVersion: 3\n",
        "NAME: acme\nversion: 3\nName: odd\n\nVersion: 9\n",
    ],
    ids=["folded", "with a blank line in it", "in another case"],
)
def test_headers_are_read(folder, path, headers):
    info = folder.add()
    (info / "METADATA").write_text(headers)
    assert [each[:3] for each in both(path)] == [("acme", "acme", "3")]


def test_they_come_by_name(folder):
    folder.add(entries="[modelyard]\nb = b\nc = c\na = a\n")
    assert [found.name for found in discovery.installed()] == ["a", "b", "c"]


def test_damaged_metadata_harms_no_other_distribution(folder):
    info = folder.add(name="damaged", entries="[modelyard]\nno value\nodd = odd\n")
    (info / "METADATA").unlink()
    (info / "entry_points.txt").write_bytes(b"[modelyard]\n= \n\xff = \xff\nodd = ..\nempty =\n")
    folder.add()
    found = {each.name: each for each in discovery.installed()}
    assert found["acme"].version == "1.2"
    for name in ("odd", "empty", "\N{REPLACEMENT CHARACTER}"):
        with pytest.raises((ImportError, ValueError, TypeError)):
            found[name].load()


def test_an_entry_point_may_lead_into_a_module(folder, path, monkeypatch):
    (folder.path / "acme_codecs.py").write_text("class Plugin:\n    made = object()\n")
    folder.add(entries=ENTRIES["an extra and blanks"].replace(".plugin", ""))
    (found,) = discovery.installed()
    monkeypatch.delitem(sys.modules, "acme_codecs", raising=False)
    loaded = found.load()
    assert loaded is sys.modules.pop("acme_codecs").Plugin.made
    assert found.package == "acme_codecs"


class TestDistributionsThatAreInNoFolder:
    def test_may_be_in_an_archive(self, tmp_path, folder, path):
        info = folder.add()
        archive = tmp_path / "site.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in info.iterdir():
                zipped.write(file, f"{info.name}/{file.name}")
        path[:] = [str(archive)]
        assert discovery._from_folders(path) is None
        assert described(discovery.installed()) == [("acme", "acme-codecs", "1.2", "acme_codecs")]

    def test_may_be_known_to_another_finder(self, path, monkeypatch):
        class OfMemory(Distribution):
            def read_text(self, filename):
                texts = {"METADATA": "Name: acme\nVersion: 3", "entry_points.txt": ENTRIES["one plugin"]}
                return texts.get(filename)

            def locate_file(self, path):
                raise NotImplementedError

        class Finder:
            @staticmethod
            def find_spec(*arguments):
                return None

            @staticmethod
            def find_distributions(context):
                return [OfMemory()]

        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
        assert described(discovery.installed()) == [("acme", "acme", "3", "acme_codecs")]


def test_importlib_metadata_is_not_imported_for_what_is_in_folders(site):
    site.install_codec("acme-codecs", "acme")
    program = (
        f"import sys; sys.path.insert(0, {str(site.folder)!r})\n"
        "from modelyard import PluginManager as P; assert P.discover().codecs.get('acme').version == '1.0'\n"
        "assert 'importlib.metadata' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

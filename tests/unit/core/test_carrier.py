"""URIs, paths, and which storage and packager move a plan's files."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.carrier import PluginCarrier, as_uri, local_path, storage_for
from modelyard.core.contracts import Bundle, Splice, SplicingCarrier
from modelyard.core.errors import InvalidPlanError, ProviderConflictError, StorageError, UnknownProviderError
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, SourceCode

SPLICE = Splice(b"", 1, 2, b"", "", 1)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def manager(plugin, calls):
    """A manager whose storage and packager only note what they are asked."""

    class NotedStorage:
        name = "noted"
        schemes = ("noted", "noteds")

        def download(self, uri, into):
            calls.append(("download", uri, into))

        def upload(self, path, uri):
            calls.append(("upload", path, uri))
            return f"{uri}?version=1"

        def prepare(self, uri):
            calls.append(("prepare", uri))

    @attrs.frozen
    class NotedPackager:
        name = "noted"
        level: int = 1

        def pack_source(self, source, into):
            return Bundle(into / f"level-{self.level}", "", 1, 1)

        def pack_model(self, model, source, into):
            raise NotImplementedError

        def pack_tree(self, folder, archive):
            raise NotImplementedError

        def unpack(self, archive, into):
            calls.append(("unpack", archive, into))

    class NotedSplicer(NotedPackager):
        name = "splicer"

        def code_ends(self, head):
            return len(head) + self.level

        def splice(self, head, size, trailer, source, *, at_least=0):
            calls.append(("splice", head, size, trailer, source, at_least))
            return SPLICE

    manager = PluginManager()
    hooks = {
        "modelyard_register_storages": lambda: [NotedStorage],
        "modelyard_register_packagers": lambda: [NotedPackager, NotedSplicer],
    }
    manager.register(plugin(**hooks), "noted")
    return manager


@pytest.fixture
def carrier(manager):
    ref = ProviderRef("noted", {"level": 9})
    return PluginCarrier.of(manager, ref, lambda carrier, into: carrier.packager.pack_source(None, into))


# -- carriers ----------------------------------------------------------------------------------


def test_the_plans_packager_packs_with_its_options(carrier, tmp_path):
    assert carrier.pack(tmp_path).path == tmp_path / "level-9"


def test_each_call_reaches_its_provider(carrier, calls, tmp_path):
    carrier.unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    carrier.download("noted://x/y", tmp_path)
    assert carrier.upload(tmp_path, "noteds://x/z") == "noteds://x/z?version=1"
    carrier.prepare("noted://x")
    assert calls == [
        ("unpack", tmp_path / "a.tar.gz", tmp_path / "a"),
        ("download", "noted://x/y", tmp_path),
        ("upload", tmp_path, "noteds://x/z"),
        ("prepare", "noted://x"),
    ]


def test_a_storage_gets_the_options_of_its_scheme(plugin, tmp_path):
    made = []

    @attrs.frozen
    class Optioned:
        name = "optioned"
        schemes = ("one", "two")
        account: str = "default"

        def __attrs_post_init__(self):
            made.append(self.account)

        def download(self, uri, into):
            into.mkdir(parents=True)
            (into / "file").touch()

        def upload(self, path, uri):
            return uri

        def prepare(self, uri):
            pass

    manager = PluginManager.builtin()
    manager.register(plugin(modelyard_register_storages=lambda: [Optioned]), "optioned")

    def pack(carrier, into):
        with carrier.fetched("one://model", into) as model:
            assert (model / "file").is_file()

    plain = PluginCarrier.of(manager, ProviderRef("tarball"), pack, lambda *_: nullcontext())
    carrier = plain.using("one", {"account": "mine"})
    assert isinstance(carrier, SplicingCarrier)
    carrier.pack(tmp_path)
    carrier.download("one://x", tmp_path / "x")
    carrier.upload(tmp_path, "one://x")
    carrier.upload_once(tmp_path, "one://x")
    carrier.prepare("one://x")
    carrier.prepare("two://x")
    plain.prepare("one://x")
    assert made == ["mine"] * 5 + ["default"] * 2
    with pytest.raises(InvalidPlanError, match="storage 'optioned' has no option 'acount'; did you mean"):
        plain.using("one", {"acount": "mine"}).prepare("one://x")


def test_what_is_named_by_its_content_is_written_once(plugin, tmp_path):
    class Keeping:
        name = "keeping"
        schemes = ("keeping",)
        kept = {}  # noqa: RUF012

        def download(self, uri, into):
            pass

        def upload(self, path, uri):
            raise AssertionError("not asked for")

        def upload_if_absent(self, path, uri):
            return self.kept.setdefault(uri, path) == path

        def prepare(self, uri):
            pass

    manager = PluginManager.builtin()
    manager.register(plugin(modelyard_register_storages=lambda: [Keeping]), "keeping")
    carrier = PluginCarrier.of(manager, ProviderRef("tarball"), lambda *_: None)
    carrier.upload_once(tmp_path / "a", "keeping://x")
    carrier.upload_once(tmp_path / "b", "keeping://x")
    assert Keeping.kept == {"keeping://x": tmp_path / "a"}


def test_a_packager_that_splices_has_the_plans_source_for_it(manager, calls):
    folders = []

    @contextmanager
    def source(carrier, folder):
        folders.append(folder)
        assert folder.is_dir()
        yield SourceCode("inference.py")

    ref = ProviderRef("splicer", {"level": 9})
    carrier = PluginCarrier.of(
        manager, ref, lambda carrier, into: carrier.packager.pack_source(None, into), source
    )
    assert isinstance(carrier, SplicingCarrier)
    assert carrier.code_ends(b"12") == 11
    assert carrier.splice(b"12", 3, b"4", at_least=5) is SPLICE
    assert calls == [("splice", b"12", 3, b"4", SourceCode("inference.py"), 5)]
    assert not folders[0].exists()
    assert carrier.pack(Path("out")).path == Path("out/level-9")


def test_without_source_nothing_is_spliced(manager, calls):
    carrier = PluginCarrier.of(manager, ProviderRef("splicer"), lambda *_: None, lambda *_: nullcontext())
    assert carrier.splice(b"12", 3, b"4") is None
    assert calls == []


@pytest.mark.parametrize(("packager", "source"), [("noted", lambda *_: nullcontext()), ("splicer", None)])
def test_what_cannot_splice_does_not_say_it_can(manager, packager, source):
    carrier = PluginCarrier.of(manager, ProviderRef(packager), lambda *_: None, source)
    assert not isinstance(carrier, SplicingCarrier)


def test_a_packager_that_is_not_there(manager):
    with pytest.raises(UnknownProviderError, match="no packager is called 'notd'; did you mean 'noted'"):
        PluginCarrier.of(manager, ProviderRef("notd"), lambda packager, into: None)


def test_an_unknown_scheme_gets_a_suggestion(manager):
    with pytest.raises(StorageError) as raised:
        storage_for(manager, "notd://bucket/key")
    assert str(raised.value) == (
        "no storage reads 'notd://bucket/key': unknown scheme 'notd'; did you mean 'noted'? "
        "Known: noted, noteds"
    )


def test_an_unknown_scheme_does_not_tell_the_login(manager):
    with pytest.raises(StorageError, match=r"no storage reads 'notd://me:\*+@bucket/key'"):
        storage_for(manager, "notd://me:hunter2@bucket/key")


def test_an_unknown_scheme_tells_of_plugins_that_failed(manager, plugin):
    def fails():
        raise OSError("no credentials")

    manager.register(plugin(modelyard_register_storages=fails), "s3-plugin")
    with pytest.raises(StorageError, match=r"failed to load: s3-plugin .*no credentials"):
        storage_for(manager, "s3://bucket/key")


def test_two_storages_of_one_scheme_are_an_error_on_use_of_it(manager, providing):
    manager.register(providing("storage", "other", schemes=("noted",)), "other-plugin")
    assert storage_for(manager, "noteds://x").name == "noted"
    with pytest.raises(ProviderConflictError, match="other-plugin"):
        storage_for(manager, "noted://x")


# -- URIs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri", ["s3://bucket/key", "file:///data/x", "https://host/a?b=c#d", "s3://bucket/a b", "FILE:///x"]
)
def test_a_uri_stays_as_it_is(uri):
    assert as_uri(uri) == uri


def test_a_path_becomes_an_absolute_file_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert as_uri("data") == f"file://{tmp_path}/data"
    assert as_uri("./data/") == f"file://{tmp_path}/data"
    assert as_uri(Path("data")) == f"file://{tmp_path}/data"
    assert as_uri("/data") == "file:///data"
    assert as_uri("~/data") == "file:///home/someone/data"


def test_what_a_uri_cannot_hold_is_escaped():
    assert as_uri("/a b/ü#1?.csv") == "file:///a%20b/%C3%BC%231%3F.csv"


@pytest.mark.parametrize("path", ["/data/a b", "/d#1/x?y", "/50%/x", "/größe", "/a:b", "/a/c:d"])
def test_a_path_comes_back_from_its_uri(path):
    assert local_path(as_uri(path)) == Path(path)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_every_absolute_path_comes_back_from_its_uri(parts):
    path = Path("/", *parts)
    assert local_path(as_uri(path)) == path


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_a_path_object_is_never_taken_for_a_uri(name):
    assert local_path(as_uri(Path("/data") / name)) == Path("/data") / name


@pytest.mark.parametrize("uri", ["s3://bucket/key", "https://host/x"])
def test_what_is_elsewhere_has_no_local_path(uri):
    assert local_path(uri) is None

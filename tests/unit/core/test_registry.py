import attrs
import pytest

from modelyard.core.errors import (
    InvalidPlanError,
    ProviderConflictError,
    UnknownProviderError,
)
from modelyard.core.plans import ProviderRef
from modelyard.core.registry import Provider, Registry


@attrs.frozen
class JsonCodec:
    name = "json"
    media_types = ("application/json", "application/jsonlines")
    indent: int = 0


class CsvCodec:
    name = "csv"
    media_types = ("text/csv",)


def registry(*classes, note=""):
    providers = tuple(
        Provider("codec", cls, f"plugin-{i}", f"dist-{i}", "1.0") for i, cls in enumerate(classes)
    )
    return Registry("codec", providers, lambda: note)


@pytest.fixture
def codecs():
    return registry(JsonCodec, CsvCodec)


class TestLookingUp:
    def test_finds_a_provider_by_name(self, codecs):
        assert codecs.get("csv").cls is CsvCodec
        assert codecs.names() == ("csv", "json")
        assert [provider.cls for provider in codecs] == [JsonCodec, CsvCodec]

    def test_suggests_a_name_and_notes_what_failed(self):
        with pytest.raises(UnknownProviderError) as caught:
            registry(JsonCodec, note=". Plugins that failed to load: acme (OSError: no disk)").get("jsn")
        assert str(caught.value) == (
            "no codec is called 'jsn'; did you mean 'json'? Known: json"
            ". Plugins that failed to load: acme (OSError: no disk)"
        )

    def test_of_a_name_with_two_providers_is_a_conflict(self):
        codecs = registry(CsvCodec, JsonCodec, JsonCodec)
        assert codecs.get("csv").cls is CsvCodec
        assert codecs.names() == ("csv", "json")
        with pytest.raises(
            ProviderConflictError, match=r"'json' is provided by dist-1 1.0 .* and dist-2 1.0 "
        ):
            codecs.get("json")


class TestCreating:
    def test_passes_the_options(self, codecs):
        assert codecs.create(ProviderRef("json", {"indent": 2})) == JsonCodec(2)
        assert codecs.create("json") == JsonCodec()

    def test_with_an_unknown_option_is_an_error_with_a_suggestion(self, codecs):
        with pytest.raises(
            InvalidPlanError, match="codec 'json' has no option 'indnt'; did you mean 'indent'"
        ):
            codecs.create(ProviderRef("json", {"indnt": 2}))

    def test_with_an_option_of_a_class_without_any_is_an_error(self, codecs):
        with pytest.raises(InvalidPlanError, match="codec 'csv' has no option 'header'. Known: none"):
            codecs.create(ProviderRef("csv", {"header": True}))


class TestOrigins:
    def test_are_what_a_plan_records(self, codecs):
        assert codecs.get("json").ref({"indent": 2}) == ProviderRef("json", {"indent": 2}, "dist-0", "1.0")

    def test_of_a_plugin_made_by_hand_are_its_name(self):
        assert Provider("codec", CsvCodec, "mine").source == "mine"
        assert Provider("codec", CsvCodec, "mine", "dist", "1.0").source == "dist 1.0"


class TestDeclarations:
    def test_find_their_provider(self, codecs):
        assert codecs.declaring("media_types", "text/csv").cls is CsvCodec
        assert codecs.declaring("media_types", "text/plain") is None
        assert codecs.declaring("schemes", "s3") is None

    def test_may_be_patterns(self, codecs):
        class P3:
            name = "p3"
            instance_types = ("ml.p3*", "local_gpu")

        hardware = registry(P3)
        assert hardware.declaring("instance_types", "ml.p3.2xlarge", pattern=True).cls is P3
        assert hardware.declaring("instance_types", "ml.p3.2xlarge") is None
        assert hardware.declaring("instance_types", "ml.c5.large", pattern=True) is None

    def test_are_listed_sorted_and_once(self):
        assert registry(JsonCodec, CsvCodec, CsvCodec).declared("media_types") == (
            "application/json",
            "application/jsonlines",
            "text/csv",
        )

    def test_of_two_providers_are_a_conflict(self):
        class Rival:
            name = "rival"
            media_types = ("text/csv",)

        codecs = registry(CsvCodec, Rival)
        with pytest.raises(ProviderConflictError, match="'text/csv' .* dist-0 1.0 .* and dist-1 1.0"):
            codecs.declaring("media_types", "text/csv")

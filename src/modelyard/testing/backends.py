"""What every backend promises, as tests."""

from fnmatch import fnmatchcase

from modelyard.testing.backend_endpoints import EndpointPromises
from modelyard.testing.backend_jobs import JobPromises
from modelyard.testing.saying import is_a_name


class BackendContract(JobPromises, EndpointPromises):
    """The tests of one backend: subclass this, and say which.

    ::

        import pytest

        from modelyard.plugins.backends.local.backend import LocalBackend  # Yours.
        from modelyard.testing import BackendContract

        pytest_plugins = ["modelyard.testing.fixtures"]


        @pytest.mark.usefixtures("modelyard_home")
        class TestLocalBackend(BackendContract):
            backend_class = LocalBackend

    ``backend_class``: made once for each test, by the fixture `backend`, which may be overridden;
    ``instance_type``: one that it offers; ``can_train`` and ``can_serve``: whether it can, here;
    ``can_read_files``: whether its jobs can be given files of this machine; ``patience``: seconds
    until something that has not happened counts as broken. Override `adapt_plan` where its plans need
    what no other backend's do.

    The scripts that run are pure Python. Jobs are stopped and endpoints deleted after each test.
    """

    def test_has_a_name(self) -> None:
        """A backend is found by its name."""
        is_a_name(self.backend_class.name)

    def test_instance_types_are_well_formed(self) -> None:
        """`instance_types` is a tuple of patterns, one of which is that of the tests' instance type."""
        declared = self.backend_class.instance_types
        assert isinstance(declared, tuple), f"instance_types must be a tuple, not {declared!r}"
        wrong = [item for item in declared if not isinstance(item, str) or not item.strip()]
        assert not wrong, f"instance_types must hold text, not {wrong!r}"
        offered = any(fnmatchcase(self.instance_type, pattern) for pattern in declared)
        assert offered, f"instance_types {declared} do not offer {self.instance_type!r}"

    def test_is_made_without_options(self) -> None:
        """Every option has a default, so that an instance type alone can select the backend."""
        try:
            made = self.backend_class()
        except TypeError as error:
            raise AssertionError(f"cls() must work without options: {error}") from error
        assert made.name == self.backend_class.name, f"cls() is another backend: {made.name!r}"

from modelyard.plugins.packagers.tarball import TarballPackager
from modelyard.testing import PackagerContract


class TestTarballPackager(PackagerContract):
    packager = TarballPackager()


class TestTarballPackagerThatStores(PackagerContract):
    packager = TarballPackager(compression_level=0)

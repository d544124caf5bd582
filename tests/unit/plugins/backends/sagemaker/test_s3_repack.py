"""How a model is cut into the ranges that S3 copies."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.plugins.backends.sagemaker.s3_repack import _proof, _ranges

MIB, GIB = 1 << 20, 1 << 30


@given(start=st.integers(0, 64 * MIB), size=st.integers(5 * MIB, 40 << 40))
@example(start=0, size=5 * MIB)
@example(start=202, size=256 * MIB)
@example(start=202, size=256 * MIB + 1)
@example(start=0, size=40 << 40)
def test_ranges_are_all_of_it_and_as_large_as_parts_may_be(start, size):
    ranges = list(_ranges(start, start + size))
    assert (ranges[0][0], ranges[-1][1]) == (start, start + size)
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert all(5 * MIB <= stop - begin <= 5 * GIB for begin, stop in ranges)
    assert len(ranges) <= 9_998


def test_a_part_is_proved_by_its_tag_and_its_checksums():
    said = {"ETag": '"1"', "ChecksumCRC32": "2", "ChecksumType": "FULL_OBJECT", "LastModified": 3}
    assert _proof(said) == {"ETag": '"1"', "ChecksumCRC32": "2"}

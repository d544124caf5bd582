"""Makes ``docs/reference/sagemaker-compat.md``: ``python -m tests.docs.sagemaker_page`` writes it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill

from tests.docs.sagemaker_rows import SECTIONS, Row

from modelyard.compat.names import CLASSES, REFUSED, RENAMED, VALUES, WITHOUT_EFFECT
from modelyard.compat.stand_in import MODULES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sagemaker-compat.md"

_HEAD = """# Code for SageMaker's SDK

Code for version 1 or 2 of SageMaker's Python SDK runs with one change, the name of the package in its
imports:

```python
# file: train.py
import argparse
import os

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    args = parser.parse_args()
    with open(os.path.join(args.model_dir, "model.txt"), "w") as file:
        file.write(f"{args.epochs} epochs")
```

```python
from modelyard.pytorch import PyTorch

estimator = PyTorch(
    entry_point="train.py",
    role="SageMakerRole",
    instance_type="local",  # "ml.m5.xlarge" runs the same on SageMaker
    instance_count=1,
    framework_version="2.6",
    hyperparameters={"epochs": 20},
    volume_size=50,
    tags=[{"Key": "team", "Value": "vision"}],
)
estimator.fit()
```

Keywords that only SageMaker has a use for, such as `volume_size` and `tags`, are options of its backend. They
are checked when a job goes there; a job of this machine runs without them, and says so once. A keyword that
nobody knows is an error with a suggestion, where SDK v2 swallows it.

{modules}

## A program that cannot be edited

```
python -m modelyard.compat.sagemaker program.py --its arguments
```

runs it with `import sagemaker` meaning modelyard; `import modelyard.compat.sagemaker` before its imports does
the same. Nothing else ever does. Where the real package is installed that is an error, unless
`MODELYARD_COMPAT_SAGEMAKER=replace` is set.

## Line by line

What SageMaker's documentation shows, and what becomes of it. This page is made of a table that the tests
check: each name in it exists, and each line that works has a test that shows it.
"""


def page() -> str:
    """Return the page."""
    paths = ", ".join(f"`{target}`" for target in sorted(set(MODULES.values())))
    modules = fill(f"The module paths are those of the SDK: {paths}.", 110, break_long_words=False)
    return "\n".join([_HEAD.replace("{modules}", modules), *_sections(), *_names()]) + "\n"


def _sections() -> Iterator[str]:
    number = 0
    for title, rows in SECTIONS.items():
        yield from (f"### {title}", "", "| | what it shows | here | |", "| --- | --- | --- | --- |")
        for row in rows:
            number += 1
            yield _line(number, row)
        yield ""


def _line(number: int, row: Row) -> str:
    said = f" {row.said}" if row.said else ""
    return f"| {number} | {row.feature} | {row.status} |{said} |"


def _names() -> Iterator[str]:
    instances = {name: f"{cls}()" for name, cls in VALUES.items()}
    yield from ("## Names of version 1", "")
    yield "They are taken with a `DeprecationWarning`, once under either name."
    yield from _table("name", "since version 2", {**RENAMED, **CLASSES, **instances})
    yield from ("", "## Keywords without effect", "", "They are taken with a `DeprecationWarning`.")
    yield from _table("keyword", "why", WITHOUT_EFFECT, code=False)
    yield from ("", "## Keywords that are refused")
    yield from _table("keyword", "what to do", REFUSED, code=False)


def _table(left: str, right: str, rows: Mapping[str, str], *, code: bool = True) -> Iterator[str]:
    yield from ("", f"| {left} | {right} |", "| --- | --- |")
    for name, said in rows.items():
        yield f"| `{name}` | {f'`{said}`' if code else said} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

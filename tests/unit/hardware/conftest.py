import pytest


class Drivers:
    """Programs that stand in for those of drivers, in a folder that is the only one on a PATH of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {"PATH": str(folder)}

    def script(self, name, text, *, mode=0o755):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)

    def says(self, name, out=b"", *, err=b"", code=0, unless=""):
        """Have a program say this and exit; with `unless` among its arguments it knows no such option."""
        for stream, said in (("out", out), ("err", err)):
            content = said if isinstance(said, bytes) else said.encode()
            (self.folder / f"{name}.{stream}").write_bytes(content)
        refusal = f'case " $* " in *" {unless} "*) echo "unknown flag: {unless}" >&2; exit 1;; esac'
        self.script(
            name,
            f"""#!/bin/sh
            {refusal if unless else ""}
            cat '{self.folder}/{name}.out'
            cat '{self.folder}/{name}.err' >&2
            exit {code}
            """,
        )


@pytest.fixture
def drivers(tmp_path):
    folder = tmp_path / "drivers"
    folder.mkdir()
    return Drivers(folder)

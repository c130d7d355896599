"""Vendors litellm's price map out of a wheel that pip has downloaded, or checks that the vendored one is intact.

    pip download litellm --no-deps --dest /tmp/wheels
    python tools/vendor_prices.py /tmp/wheels/litellm-*.whl          # writes gateway/pricing/data/
    python tools/vendor_prices.py /tmp/wheels/litellm-*.whl --check  # compares it with the wheel, writes nothing
    python tools/vendor_prices.py --check                            # compares it with its own digest

Only the map and the licence text are taken, both from outside litellm's `enterprise/` folder. Read the diff of prices
before committing a new one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zipfile
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "gateway" / "pricing" / "data"
MAP = "litellm/model_prices_and_context_window_backup.json"
SUM_FILE = "litellm-model-prices.sha256"
LICENCE_FILE = "LICENSE-litellm"
README = """# Vendored prices

`{name}` is, byte for byte,
`{map}` of the litellm {version} wheel, compressed with a fixed time
stamp. It fills the gaps of genai-prices: models, tiers and sizes that package does not have.

- Licence: MIT, `LICENSE-litellm` (the wheel's own text; the map is outside litellm's `enterprise/` folder).
- SHA-256 of the map itself: `{map_sha256}`
- SHA-256 of `{wheel}`, which it is from: `{wheel_sha256}`
- Renew and verify: `tools/vendor_prices.py`, from a wheel that pip has downloaded.
"""


def main(arguments: list[str], data: Path = DATA) -> int:
    """0 when done or intact; 1 with a message otherwise."""
    check = "--check" in arguments
    wheels = [Path(argument) for argument in arguments if argument != "--check"]
    if len(wheels) > 1 or (not wheels and not check):
        print(__doc__)
        return 1
    try:
        files = _from_wheel(wheels[0]) if wheels else {}
    except (OSError, KeyError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        print(f"{wheels[0]}: not a litellm wheel with a price map: {error}")
        return 1
    if check:
        return _check(files, data)
    for old in data.glob("litellm-model-prices-*.json.gz"):
        old.unlink()
    data.mkdir(exist_ok=True)
    for name, content in files.items():
        (data / name).write_bytes(content)
        print(f"wrote {data / name} ({len(content)} bytes)")
    return 0


def _from_wheel(wheel: Path) -> dict[str, bytes]:
    """The files of the data folder by name, as they must be for this wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        version = info.removesuffix(".dist-info").partition("-")[2]
        content = archive.read(MAP)
        licence = archive.read(next(name for name in names if name.startswith(info) and name.endswith("LICENSE")))
    if len(json.loads(content)) < 1000 or b"MIT License" not in licence:
        raise ValueError("the map is too small or its licence is not the one expected")
    name = f"litellm-model-prices-{version}.json.gz"
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    readme = README.format(
        name=name,
        map=MAP,
        version=version,
        wheel=wheel.name,
        map_sha256=hashlib.sha256(content).hexdigest(),
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
    )
    return {
        name: packed,
        SUM_FILE: f"{hashlib.sha256(packed).hexdigest()}  {name}\n".encode(),
        LICENCE_FILE: licence,
        "README.md": readme.encode(),
    }


def _check(files: dict[str, bytes], data: Path) -> int:
    """Compares content, not packing: another zlib makes other bytes of a map, another platform another wheel."""
    digest, _, name = (data / SUM_FILE).read_text("ascii").strip().partition("  ")
    packed = (data / name).read_bytes()
    problems = [] if hashlib.sha256(packed).hexdigest() == digest else [f"{name} does not have its recorded SHA-256"]
    for wanted, content in files.items():
        if wanted in (SUM_FILE, "README.md"):
            continue
        path = data / wanted
        unpack = gzip.decompress if wanted.endswith(".gz") else bytes
        if not path.exists() or unpack(path.read_bytes()) != unpack(content):
            problems.append(f"{wanted} differs from the wheel's")
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{name} is intact")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

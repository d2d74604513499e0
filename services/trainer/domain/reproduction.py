"""Whether a run made again is the same, and what may have kept it from being so."""

from collections.abc import Mapping, Sequence

_NAMES = {
    "cpu_capability": "the processor's instruction set",
    "cpu": "the processor",
    "gpu": "the GPU",
    "precision": "the precision",
    "device": "the device",
    "code": "the training code",
    "lock": "the installed packages",
}
_HARMLESS = ("threads", "lock", "python")
"""Differences that were seen to leave the bits alone, unless one of the others comes with them."""


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words, the weightier first."""
    unlike = [name for name in then.keys() | now.keys() if then.get(name) != now.get(name)]
    order = sorted(unlike, key=lambda name: (name in _HARMLESS, name))
    return [
        f"{_NAMES.get(name, name)} was {_short(then.get(name, 'absent'))} and is {_short(now.get(name, 'absent'))}"
        for name in order
    ]


def verdict(unlike_files: Sequence[str], changed: Sequence[str]) -> tuple[bool, str]:
    """Same bytes or not, and why."""
    if not unlike_files:
        return True, f"the same bytes, although {'; '.join(changed)}" if changed else "the same bytes"
    what = f"{', '.join(unlike_files)} differ"
    if changed:
        return False, f"{what}: bits are promised on the same kind of machine and code only, and {'; '.join(changed)}"
    return False, f"{what} although machine, packages and code are the same: that is a defect, please report it"


def _short(value: str) -> str:
    return value.removeprefix("sha256:")[:12] if value.startswith("sha256:") else value

"""Run before a child's own program: ask the kernel to kill this process when its parent dies, then become the program.

Stands alone (standard library only, run as a file), because it has to be up in milliseconds and because doing this
between fork and exec would run Python in a forked copy of a process that has threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

CHANNEL_VARIABLE = "PAWL_CHILD_CHANNEL"
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGKILL here when process `parent` ends; ends at once if it is gone already.

    Source: prctl(2), PR_SET_PDEATHSIG; kept across exec, lost across fork. The parent may have died before the
    call, in which case no signal would ever come: hence the second look.
    """
    if not sys.platform.startswith("linux"):
        return  # nobody else can be asked for this; stopping in good order has to do
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def bound_command(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` bound to this process; the process id stays that of the command.

    For a plain `subprocess.Popen` without `preexec_fn`, which would fork a process that has gRPC's threads and
    leave the copy with its broken file descriptors. The kernel ties the child to the *thread* that spawns it.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]  # noqa: PTH100 - fast


def main(arguments: list[str]) -> None:
    """`bound.py PARENT_PID COMMAND [ARGUMENT...]`; status 127 when the command cannot be run."""
    die_with_parent(int(arguments[0]))
    try:
        os.execvp(arguments[1], arguments[1:])  # noqa: S606 - becoming the program is the point
    except OSError as failure:
        sys.stderr.write(f"error: cannot run {arguments[1]}: {failure.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])

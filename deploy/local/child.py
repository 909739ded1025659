"""Become another program that ends when the one who started it does.

`python -S child.py PARENT_PID PROGRAM ARGUMENT...`: asks the kernel to kill this process when its
parent dies, then replaces itself, so that a parent ended by kill -9 leaves nothing behind. It is a
program of its own because code between fork and exec is unsafe in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - replacing this process is what it is for


if __name__ == "__main__":
    main()

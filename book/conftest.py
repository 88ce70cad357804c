"""nbval's kernels, started as tools/run/execute.py starts them.

A kernel forwards what C code writes to file descriptor 2, and TensorFlow writes a line there
that names the machine, whatever its log level. It is not stored in the notebooks, so a kernel
that forwarded it would fail the comparison of whichever cell imports TensorFlow.
"""

import nbval.kernel

_start_new_kernel = nbval.kernel.start_new_kernel


def _start_quiet_kernel(*arguments, **options):
    quiet = ["--IPKernelApp.capture_fd_output=False"]
    return _start_new_kernel(*arguments, extra_arguments=quiet, **options)


nbval.kernel.start_new_kernel = _start_quiet_kernel

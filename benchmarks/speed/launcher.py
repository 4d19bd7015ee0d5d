"""Run a command and print, as the last line of the error stream, what it and its children took. Standard library only.

python -I -S launcher.py COMMAND...
"""

import json
import os
import subprocess
import sys
import time


def main() -> int:
    """The command's own exit code comes back."""
    begun = time.monotonic()
    process = subprocess.Popen(sys.argv[1:])
    _, status, taken = os.wait4(process.pid, 0)
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in kB elsewhere
    figures = {
        "processor": taken.ru_utime + taken.ru_stime,
        "wall": time.monotonic() - begun,
        "peak_bytes": taken.ru_maxrss * scale,
    }
    print(json.dumps(figures), file=sys.stderr)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())

"""`reverie` commands that a recipe runs, and may stop after so long."""

import signal
import subprocess


def waited(process: subprocess.Popen, seconds: float | None = None) -> int:
    """The exit status of a command. A training that outlasts the seconds is interrupted, which saves it: that is 0."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        status = process.wait()
        return 0 if status == 130 else status

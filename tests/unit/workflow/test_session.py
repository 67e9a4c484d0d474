"""What the main process of an engine sees to."""

import os
import signal
import threading

from workflow.session import terminate_in_a_thread


def test_sigterm_does_not_wait_for_a_lock_that_the_main_thread_holds():
    lock, ended, before = threading.Lock(), threading.Event(), signal.getsignal(signal.SIGTERM)

    def graceful(number, frame):
        with lock:
            ended.set()

    try:
        signal.signal(signal.SIGTERM, graceful)
        terminate_in_a_thread()
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not ended.wait(0.1)
        assert ended.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)

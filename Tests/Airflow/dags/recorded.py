"""A DAG whose task takes some seconds and writes down when it began and ended and which leadership started it."""

import os
import time
from datetime import datetime, timedelta

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


def record(what, run):
    """One short append a line: the kernel keeps lines of several processes apart."""
    line = f"{time.clock_gettime(time.CLOCK_BOOTTIME):.3f} {what} {os.environ['SIDECAR_EPOCH']} {run}\n"
    file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, line.encode())
    os.close(file)


@dag(
    schedule=timedelta(seconds=5),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=4,
    is_paused_upon_creation=False,
)
def recorded():
    @task
    def work(run_id=None):
        record("begin", run_id)
        for _ in range(8):
            time.sleep(0.5)
            record("alive", run_id)
        record("end", run_id)

    work()


recorded()

"""A DAG that runs every few seconds, so that a minute shows whether a scheduler is at work. For Airflow 2 and 3."""

import time
from datetime import datetime, timedelta

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


@dag(
    schedule=timedelta(seconds=5),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=8,
    is_paused_upon_creation=False,
)
def sidecar_demo():
    @task
    def work():
        time.sleep(2)

    work()


sidecar_demo()

"""Every twenty seconds two tasks, one after the other: enough to see who works, and that the cluster goes on through a fault."""

from datetime import datetime, timedelta

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    schedule=timedelta(seconds=20),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # A run whose worker was killed waits for its next try; the runs after it shall not wait for it.
    max_active_runs=8,
    # Together longer than a broker takes to start again: meanwhile each try fails at once.
    default_args={"retries": 5, "retry_delay": timedelta(seconds=15)},
    is_paused_upon_creation=False,
    tags=["example"],
)
def example():
    @task
    def extract():
        return list(range(10))

    @task
    def load(numbers):
        print(f"the sum is {sum(numbers)}")

    load(extract())


example()

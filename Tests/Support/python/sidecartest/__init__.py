"""What the tests, benchmarks and scripts that are written in Python share: processes, waiting, a private PostgreSQL, a tally, a
container engine. Python's own library only; runs with the oldest Python that a tested Airflow runs on (3.8)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]

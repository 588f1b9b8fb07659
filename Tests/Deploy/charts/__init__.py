"""The test of the charts in helm/: see Tests/Deploy/chart."""

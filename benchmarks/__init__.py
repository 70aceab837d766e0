"""One script per claim; results as CSV, named by machine, variant and date."""

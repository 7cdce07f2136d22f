"""
tunnelstack beside genuine Go programs, in the same run, doing the same work: C{python -m benchmarks}.
"""

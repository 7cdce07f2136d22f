"""
Our side of the benchmarks, built from the public parts of tunnelstack: the twin of C{benchmarks/go}.
"""

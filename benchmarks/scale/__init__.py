"""The parts of `benchmarks.scale_kubernetes`."""

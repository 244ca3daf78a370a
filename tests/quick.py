"""How programs are compiled for tests: most of the suite's time is compiling."""

FLAGS = '--xla_backend_optimization_level=0'  # a training step in two thirds of the time; it runs slower

"""Bad inputs, each with what the one line about it names; `python -m tests.corpus` shows the lines."""

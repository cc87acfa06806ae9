"""What pytest leaves alone when it collects this folder."""

collect_ignore = ["gpu_interpreter.py"]  # a script for a process of its own: it needs Triton, told to interpret

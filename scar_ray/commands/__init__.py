"""One module for each command of `scar-ray`.

A command has `add_arguments(parser)`, which must import nothing heavy, and `run(parsed) -> exit code`. To add one,
write the module and name it in `scar_ray.cli`.
"""

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended."""

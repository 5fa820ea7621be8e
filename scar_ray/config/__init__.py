"""The configuration: schema, group files and overrides, and everything that can be told before a run starts.

| module | what it does |
|---|---|
| schema, cluster, section | the typed keys, their ranges and defaults |
| combinations | which valid keys exclude each other |
| load, overrides | group files, dotted overrides and sweeps (Hydra), validated |
| messages, errors | one line for each mistake, with the nearest valid name |
| placement, arithmetic, describe | the plan that `--dry-run` prints |
| preflight, model_folder | models, data, disk and packages of this machine |
"""

"""How long a training step takes, and how to split GPUs among rollout, learner and reward pool, before anything runs.

    shapes.ModelShape     parameters, FLOPs and bytes of a model, from a table or its config.json
    devices.Device        peaks of a device from its data sheet, and the shares of them that each role reaches
    reading.Reading       what a credit method asks of the reward model for one response
    roles                 seconds and memory of rollout, learner, reward pool and weight sync
    step.Workload         a training step; step.predict: its time on one split, with what runs beside what
    search.best_splits    all splits of so many GPUs that fit into memory, the fastest first

Plain Python and numpy: nothing is loaded and no device is needed. `benchmarks/plan.py` measures a machine's rates and
checks the predictions against training runs on it; docs/planning.md says what is measured and what is extrapolated.
"""

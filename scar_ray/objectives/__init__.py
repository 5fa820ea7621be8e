"""The pure mathematics of the update: score shaping, KL, advantages, PPO losses, learning-rate schedule.

Nothing here knows about actors, models or configuration. `shaping`, `kl`, `gae`, `importance` and `schedule`
run on the driver and need numpy at most; `ppo` runs in the learner and needs torch. Import the module needed.
Shape suffixes: B responses, T response tokens, V vocabulary. (B, T) arrays are right-padded, with a boolean
mask that is True at response tokens.
"""

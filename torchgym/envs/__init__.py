"""The faces of the market for reinforcement learning, one file each; every one is thin and drives a `torchgym.engine.Market`."""

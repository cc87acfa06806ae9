"""What the learner and its users are told: features, account, rewards, info, paths."""

"""The market itself, one tick at a time: traders, matching, accounts, and what everybody can see. Knows nothing of learning."""

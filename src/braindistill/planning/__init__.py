"""What an evaluation consists of: its arms, those of ROIs, subjects and label budgets, the trials of tuning, and the steps behind it."""

"""The paper's Table 2: one training for each of its rows, and the comparison."""

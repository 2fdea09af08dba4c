"""Train the rows of the paper's Table 2 and compare them."""

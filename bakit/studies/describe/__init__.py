"""What is in a labelled folder, and what is wrong with it."""

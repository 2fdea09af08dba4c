"""From grey values to the regressor's input: find the hand, correct its polarity, crop it."""

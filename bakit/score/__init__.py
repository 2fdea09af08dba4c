"""Score many films: a row for each, in a table that a killed run continues."""

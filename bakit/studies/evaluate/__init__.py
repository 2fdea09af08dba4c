"""How large a model's errors are on labelled radiographs."""

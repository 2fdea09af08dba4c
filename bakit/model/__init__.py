"""The float model: checkpoint, networks in torch, prediction intervals."""

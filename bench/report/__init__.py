"""The document that ``bakit bench`` writes."""

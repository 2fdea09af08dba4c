"""A prediction in other formats: text, CSV, FHIR, DICOM SR."""

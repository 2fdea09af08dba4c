"""A DICOM node: radiographs in, structured reports out to a peer, on disk until delivered."""

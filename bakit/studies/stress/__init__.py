"""What turning, mirroring, lighting and blurring a radiograph does to its age."""

"""From a file to grey values, and operations on grey values."""

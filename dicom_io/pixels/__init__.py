"""From a file's pixel data to frames of grey values, or a reason why not."""

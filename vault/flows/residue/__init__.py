"""The independent reader: looks for what an erasure may have left, and shares nothing with the eraser but the schema."""

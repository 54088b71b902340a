"""What happened: the lines that AWS Lambda writes around a handler's output."""

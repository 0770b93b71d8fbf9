"""What a roster is: the events, the rules that decide them, and the log that keeps them."""

"""What runs do outside their training distribution: which answers are wrong, by which law, on which items."""

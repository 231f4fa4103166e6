"""From stored results to what a person reads: tables, the register of published numbers, one HTML page."""

"""What a crash may not do: real processes, killed with -9 at any moment, and logs cut and bent."""

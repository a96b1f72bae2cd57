"""Long attacks on all commands: kills, damaged inputs, full disks, two at once. `make soak MINUTES=10`."""

"""Benchmarks of Playhead beside nginx and rclone, run side by side on one machine: `python -m bench`."""

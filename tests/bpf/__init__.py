"""The write capture on this kernel: real ext4, real programs, real writes."""

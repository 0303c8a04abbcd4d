"""The farm filter for hosts without XDP and with an old nftables: verdicts in user space."""

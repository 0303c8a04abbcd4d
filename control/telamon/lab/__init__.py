"""Several hosts on one machine, made of namespaces: `telamon lab`, its demo and its oracles."""

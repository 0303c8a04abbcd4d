"""telamond: start-up, API and wiring; the only place where all parts meet."""

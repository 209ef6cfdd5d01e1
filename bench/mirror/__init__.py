"""What the mirror costs a real API server: many agents, one failover after the other, and long stretches of nothing."""

"""From what is folded to what somebody is told: found, kept, sent."""
